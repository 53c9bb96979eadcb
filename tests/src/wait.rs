//! Waiting for a condition; never for a fixed time.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Pause between two looks at a condition: short against everything that is waited for, long against a look.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Waits until the condition holds; fails after the deadline and says what was waited for.
pub fn until(deadline: Duration, what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    until_some(deadline, what, || holds().then_some(()))
}

/// Waits until a look yields a value.
pub fn until_some<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = look() {
            return Ok(value);
        }
        if start.elapsed() >= deadline {
            bail!("after {:.1} s it still did not hold that {what}", deadline.as_secs_f32());
        }
        thread::sleep(LOOK_EVERY);
    }
}
