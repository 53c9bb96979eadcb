//! How far something long is, for whoever watches a terminal.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use rustix::termios::isatty;

/// What takes less is done before anybody asks.
const SHOWN_AFTER: Duration = Duration::from_secs(1);
const SHOWN_EVERY: Duration = Duration::from_millis(100);
/// Letters of the bar.
const WIDTH: u64 = 30;

/// A bar on standard error, if that is a terminal; gone when dropped.
#[derive(Debug)]
pub struct Progress {
    is_terminal: bool,
    began: Instant,
    shown: Option<Instant>,
}

impl Progress {
    /// Begins now.
    pub fn new() -> Self {
        Self { is_terminal: isatty(io::stderr()), began: Instant::now(), shown: None }
    }

    /// Shows how many leaves of how many are done.
    pub fn show(&mut self, done: u64, all: u64) {
        let now = Instant::now();
        let next = self.shown.map_or(self.began + SHOWN_AFTER, |shown| shown + SHOWN_EVERY);
        if self.is_terminal && now >= next {
            self.shown = Some(now);
            say(&format!("\r\x1b[K{}", bar(done, all)));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            say("\r\x1b[K");
        }
    }
}

fn bar(done: u64, all: u64) -> String {
    let of_all = |whole: u64| u128::from(done.min(all)) * u128::from(whole) / u128::from(all.max(1));
    let filled = "#".repeat(usize::try_from(of_all(WIDTH)).unwrap_or_default());
    format!("[{filled:-<width$}] {:3} % of {all} leaves", of_all(100), width = WIDTH as usize)
}

fn say(text: &str) {
    let mut out = io::stderr().lock();
    // Nobody is left to tell when standard error fails.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn a_bar_is_as_full_as_the_work_is_done() {
        assert_eq!(bar(0, 1_000), "[------------------------------]   0 % of 1000 leaves");
        assert_eq!(bar(499, 1_000), "[##############----------------]  49 % of 1000 leaves");
        assert_eq!(bar(1_000, 1_000), "[##############################] 100 % of 1000 leaves");
        assert_eq!(bar(7, 0), "[------------------------------]   0 % of 0 leaves");
    }
}
