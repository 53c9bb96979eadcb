//! A run of meshctl, with what it took.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mesh_lab::program;

/// How often the kernel is asked; what it says of memory is the peak since the start.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Ticks of `/proc` in a second.
const TICKS_PER_S: f64 = 100.0;

/// What a run took.
pub struct Watched {
    /// Its exit code.
    pub code: i32,
    /// From its start to its end.
    pub wall_s: f64,
    /// Of all its threads, in the kernel and outside.
    pub processor_s: f64,
    /// Resident memory.
    pub peak_mib: f64,
}

impl Watched {
    /// Runs meshctl to its end.
    pub fn run(line: &[&str]) -> Result<Self> {
        let start = Instant::now();
        let mut child = Command::new(program("meshctl")?)
            .args(line)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("start meshctl")?;
        let dir = format!("/proc/{}", child.id());
        let (mut peak_mib, mut processor_s) = (None, None);
        let status = loop {
            // Of a process that has just ended nothing is left to read, and what was read before counts.
            peak_mib = peak(&dir).or(peak_mib);
            processor_s = processor(&dir).or(processor_s);
            if let Some(status) = child.try_wait().context("wait for meshctl")? {
                break status;
            }
            thread::sleep(LOOK_EVERY);
        };
        let wall_s = start.elapsed().as_secs_f64();
        let Some(code) = status.code() else { bail!("`meshctl {}` ended with {status}", line.join(" ")) };
        let peak_mib = peak_mib.context("find VmHWM of meshctl")?;
        Ok(Self { code, wall_s, processor_s: processor_s.context("find the time of meshctl")?, peak_mib })
    }
}

fn peak(dir: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("{dir}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}

fn processor(dir: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("{dir}/stat")).ok()?;
    // Behind the name, which may hold anything: the 12th and 13th fields.
    let (_, behind) = text.rsplit_once(") ")?;
    let mut ticks = behind.split(' ').skip(11).map_while(|field| field.parse::<f64>().ok());
    Some((ticks.next()? + ticks.next()?) / TICKS_PER_S)
}
