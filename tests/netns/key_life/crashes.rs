//! A daemon that is killed at each moment of a rotation.

use std::time::{Duration, Instant};

use anyhow::ensure;
use mesh_lab::{SeenKeys, story, wait};

use crate::file::{self, Step};
use crate::wanted;

/// Keys live two seconds.
const STORM: &str = "[keys]\nperiod_s = 2\n";
/// How often it is killed at each moment, where once is not enough.
const KILLS: &str = "MESH_KILLS";
const DEADLINE: Duration = Duration::from_secs(60);
/// What is on disk when it is killed, and how long it has been there: at once, and after others have heard of it.
const MOMENTS: [(Step, Duration); 8] = [
    (Step::Prepared, Duration::ZERO),
    (Step::Prepared, Duration::from_millis(150)),
    (Step::Proving, Duration::ZERO),
    (Step::Proving, Duration::from_millis(100)),
    (Step::Committed, Duration::ZERO),
    (Step::Committed, Duration::from_millis(200)),
    (Step::Destroyed, Duration::ZERO),
    (Step::Destroyed, Duration::from_millis(150)),
];

#[test]
fn a_daemon_that_is_killed_at_any_step_goes_on_and_no_key_is_used_twice() {
    story("key-crashes", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh_with("clinics", &[&a, &b], STORM)?;
        mesh.everyone_reaches_all()?;
        let (a4, b4) = (mesh.member("a")?.addr4.to_string(), mesh.member("b")?.addr4.to_string());
        let mut seen = SeenKeys::default();
        let mut slowest = Duration::ZERO;
        for round in 0..wanted(KILLS, 1) {
            for (step, after) in MOMENTS {
                let what = format!("round {round}: b has stored {step:?}");
                let before = file::step(&b)?.0;
                wait::until(DEADLINE, &what, || {
                    file::step(&b).is_ok_and(|(write, now)| write > before && now == step)
                })?;
                std::thread::sleep(after);
                seen.note(&a)?;
                let member = mesh.member_mut("b")?;
                member.daemon.kill()?;
                member.daemon = b.meshd(STORM)?;
                let started = Instant::now();
                mesh.member("b")?.reaches(DEADLINE, &a4)?;
                mesh.member("a")?.reaches(DEADLINE, &b4)?;
                slowest = slowest.max(started.elapsed());
                seen.note(&a)?;
                seen.note(&b)?;
            }
        }
        println!(
            "{} keys; both reached each other {} ms after the start at the latest",
            seen.count(),
            slowest.as_millis()
        );
        let before = a.epoch("b")?;
        wait::until(DEADLINE, "b goes on to replace its key", || {
            a.epoch("b").is_ok_and(|now| now > before + 1)
        })?;
        let log = std::fs::read_to_string(a.log("meshd"))?;
        ensure!(!log.contains("equivocation"), "b has signed two records under one number");
        Ok(())
    });
}
