//! The clock of the packet path.

use std::time::Duration;

/// Time since the host started, suspension included: sessions age while a laptop sleeps.
pub(super) use crate::clock::boot as now;

/// Coarse form of a time, as objects that threads share keep it.
pub(super) fn millis(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn uptime() -> Duration {
        let text = std::fs::read_to_string("/proc/uptime").unwrap();
        Duration::from_secs_f64(text.split(' ').next().unwrap().parse().unwrap())
    }

    #[test]
    fn now_is_how_long_the_host_is_up() {
        // Rounded down to hundredths.
        let (before, now, after) = (uptime(), now(), uptime() + Duration::from_millis(10));
        assert!(before <= now && now <= after, "{before:?} {now:?} {after:?}");
    }

    #[test]
    fn bug20_the_clock_goes_on_while_the_host_sleeps() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        // The other test again, on a host that has slept for a day: its other clocks stood still.
        let mut asleep = Command::new("unshare");
        asleep.args(["--time", "--fork", "--boottime", "86400"]).arg(std::env::current_exe().unwrap());
        asleep.args(["--exact", "dataplane::clock::tests::now_is_how_long_the_host_is_up"]);
        let output = asleep.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }
}
