//! Nothing of a lab is left behind, however its process ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use mesh_lab::{CLAIMS, Lab, remains, story, sweep, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const DEADLINE: Duration = Duration::from_secs(30);

/// Says to this program, run again as a child, how its lab should end.
const ENDING: &str = "MESH_LAB_TEST_ENDING";

/// What a child said about its lab before that ended.
struct Ended {
    id: String,
    processes: [i32; 2],
    logs: String,
    stderr: String,
}

#[test]
fn a_panic_leaves_only_the_logs() -> Result<()> {
    let ended = child("panic", |_| Ok(()))?;
    nothing_is_left(&ended);
    assert!(Path::new(&ended.logs).exists(), "the logs are kept");
    assert!(ended.stderr.contains(&ended.logs), "their path is printed: {}", ended.stderr);
    fs::remove_dir_all(&ended.logs)?;
    Ok(())
}

#[test]
fn an_interrupt_leaves_only_the_logs() -> Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let ended = child("wait", |child| Ok(kill(pid(child), signal)?))?;
        nothing_is_left(&ended);
        fs::remove_dir_all(&ended.logs)?;
    }
    Ok(())
}

#[test]
fn what_a_killed_lab_leaves_is_swept() -> Result<()> {
    let ended = child("wait", |child| Ok(kill(pid(child), Signal::SIGKILL)?))?;
    // Another lab that starts meanwhile may have swept it already.
    sweep()?;
    let what = "the killed lab is swept";
    wait::until(DEADLINE, what, || !Path::new(CLAIMS).join(&ended.id).exists())?;
    nothing_is_left(&ended);
    fs::remove_dir_all(&ended.logs)?;
    Ok(())
}

#[test]
fn success_leaves_not_even_logs() -> Result<()> {
    let ended = child("return", |_| Ok(()))?;
    nothing_is_left(&ended);
    assert!(!Path::new(&ended.logs).exists());
    Ok(())
}

#[test]
fn a_sweep_spares_living_labs() {
    story("spared", |lab| {
        let a = lab.host("a")?;
        assert!(!sweep()?.contains(&lab.id().to_owned()));
        assert!(a.namespace().exists());
        Ok(())
    });
}

/// Not a test of its own: the lab that the tests above end.
#[test]
fn lab_of_a_child() {
    let Ok(ending) = std::env::var(ENDING) else { return };
    story("child", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        lab.internet().cut(a.number(), b.number())?;
        lab.internet().delay(a.number(), b.number(), mesh_lab::Delay::one_way_ms(1))?;
        let mut process = a.start(&["ping", "-q", "127.0.0.1"])?;
        a.small_disk(1 << 20)?;
        // As a container does, it leaves its starter and the namespace of its host.
        let leave = "setsid unshare --net sleep 600 </dev/null >/dev/null 2>&1 & echo $!";
        let machine = lab.machine("c")?;
        let contained = machine.run(&["sh", "-c", leave])?.ok()?;
        let contained: i32 = contained.trim().parse()?;
        println!("\nlab {} {} {} {}", lab.id(), process.pid(), contained, lab.logs().display());
        match ending.as_str() {
            "return" => Ok(()),
            "panic" => panic!("as it was told to"),
            _ => process.wait(Duration::from_secs(600)).map(drop),
        }
    });
}

fn child(ending: &str, end: impl FnOnce(&Child) -> Result<()>) -> Result<Ended> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", "lab_of_a_child", "--nocapture"])
        .env(ENDING, ending)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().context("no standard output")?;
    let mut lines = BufReader::new(stdout).lines();
    let line = lines.by_ref().map_while(Result::ok).find(|line| line.starts_with("lab "));
    let line = line.context("the child made no lab")?;
    let mut words = line.split(' ').skip(1);
    let (id, started, contained, logs) = (words.next(), words.next(), words.next(), words.next());
    end(&child)?;
    // Its test harness still prints; it must not wait for a reader.
    lines.for_each(drop);
    let output = child.wait_with_output()?;
    Ok(Ended {
        id: id.context("no id")?.to_owned(),
        processes: [started.context("no process")?.parse()?, contained.context("no container")?.parse()?],
        logs: logs.context("no logs")?.to_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn nothing_is_left(ended: &Ended) {
    let Ended { id, processes, .. } = ended;
    assert_eq!(remains(id), [""; 0], "namespaces, and with them links and nft tables, too");
    for process in processes {
        // One that was killed may wait for its last rites by init; it has no program any more.
        let program = format!("/proc/{process}/exe");
        wait::until(DEADLINE, "the process is gone", || fs::read_link(&program).is_err())
            .unwrap_or_else(|error| panic!("{error:#}"));
    }
    assert!(!fs::read_to_string("/proc/self/mounts").unwrap_or_default().contains(id.as_str()), "mount");
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

#[test]
fn an_empty_lab_is_removed() -> Result<()> {
    let lab = Lab::new("empty")?;
    let id = lab.id().to_owned();
    drop(lab);
    assert!(!Path::new(CLAIMS).join(id).exists());
    Ok(())
}
