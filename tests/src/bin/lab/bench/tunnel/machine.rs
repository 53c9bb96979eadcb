//! What the machine is, and what it spends.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::{Pid, SysconfVar, sysconf};
use serde::Serialize;

/// Length of a look at what the machine does besides the benchmark.
const QUIET_LOOK: Duration = Duration::from_millis(300);

/// What results depend on.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// Day and time of the run, UTC.
    pub date: String,
    /// Kernel release.
    pub kernel: String,
    /// Model of the processor.
    pub cpu: String,
    /// Cores.
    pub cores: usize,
    /// Load over the minute before the run.
    pub load: f64,
}

impl Machine {
    /// Looks at this machine.
    pub fn look() -> Result<Self> {
        let date = Command::new("date").args(["--utc", "+%Y-%m-%d %H:%M"]).output().context("start date")?;
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's release")?;
        let load = fs::read_to_string("/proc/loadavg").context("read /proc/loadavg")?;
        Ok(Self {
            date: String::from_utf8_lossy(&date.stdout).trim().to_owned(),
            kernel: kernel.trim().to_owned(),
            cpu: model.map_or("unknown", |(_, model)| model).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            load: load.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0),
        })
    }
}

/// Work of all cores since the machine started.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    ticks: u64,
}

impl Cpu {
    /// Reads the counter.
    pub fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
        let line = text.lines().next().context("find the line of all cores in /proc/stat")?;
        let fields: Vec<u64> =
            line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
        // user, nice, system, idle, iowait, irq, softirq; what a hypervisor stole is nobody's work here.
        let busy = [0, 1, 2, 5, 6].iter().filter_map(|at| fields.get(*at));
        Ok(Self { ticks: busy.sum() })
    }

    /// Seconds of work of all cores since then.
    pub fn spent(self) -> Result<f64> {
        let per_second = sysconf(SysconfVar::CLK_TCK).context("ask for the length of a tick")?.unwrap_or(100);
        Ok(Self::now()?.ticks.saturating_sub(self.ticks) as f64 / per_second as f64)
    }
}

/// Cores that others keep busy while the benchmark does nothing.
pub fn cores_busy_with_others() -> Result<f64> {
    let cpu = Cpu::now()?;
    std::thread::sleep(QUIET_LOOK);
    Ok(cpu.spent()? / QUIET_LOOK.as_secs_f64())
}

/// Resident memory of processes in MB.
pub fn rss_mb(processes: &[Pid]) -> Option<f64> {
    let sizes = processes.iter().filter_map(|pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    });
    let kib = sizes.reduce(f64::max)?;
    Some(kib * 1024.0 / 1e6)
}
