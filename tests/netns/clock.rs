//! The time of day of a host jumps while packets flow and keys rotate.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_lab::clock::MovableClock;
use mesh_lab::{EchoCount, Host, Mesh, Process, story, wait};

/// Keys live two seconds.
const STORM: &str = "[keys]\nperiod_s = 2\n";
const DEADLINE: Duration = Duration::from_secs(60);
/// What a clock does while traffic goes on without a loss; and back each time.
const JUMPS: [&str; 6] = ["+90s", "-90s", "+5m", "-5m", "+10y", "-1y"];
/// How long it stays wrong: the state of the organisation is looked at in between, and several rotations would be due.
const WRONG_FOR: Duration = Duration::from_secs(5);
const ECHO_EVERY_S: &str = "0.01";
/// The steward signs the state of its organisation once a minute.
const SIGNED_WITHIN: Duration = Duration::from_secs(120);

#[test]
fn a_clock_that_jumps_costs_no_packet_and_keys_rotate_again_when_it_is_set() {
    story("clock", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh_with("clinics", &[&a, &b], STORM)?;
        mesh.everyone_reaches_all()?;
        let clock = give_clock(&mut mesh, &b)?;
        mesh.everyone_reaches_all()?;
        // The organisation's time is what the clock is held against; the steward signs it once a minute.
        let a4 = mesh.member("a")?.addr4.to_string();
        wait::until(
            Duration::from_secs(120),
            "b has heard the time of its organisation since it started",
            || state_age(&b).is_ok_and(|age| age <= 5),
        )?;
        let mut echo = echoes(&b, &a4)?;
        for jump in JUMPS {
            clock.set(jump)?;
            std::thread::sleep(WRONG_FOR);
            let is_far = jump.ends_with('y');
            ensure!(warns(&b)? || !is_far, "b does not see that its clock is off by {jump}");
            clock.set("+0")?;
            let before = a.epoch("b")?;
            wait::until(DEADLINE, &format!("b replaces its key again after {jump}"), || {
                a.epoch("b").is_ok_and(|now| now > before)
            })?;
            ensure!(echo.ended().is_none(), "ping ended");
        }
        echo.signal(nix::sys::signal::Signal::SIGINT)?;
        echo.wait(DEADLINE)?;
        let count = EchoCount::read(&b)?;
        ensure!(count.lost_none(), "{count:?}");
        Ok(())
    });
}

#[test]
fn a_clock_that_was_wrong_with_that_of_its_organisation_is_set_right_with_it() {
    story("clock-corrected", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh_with("clinics", &[&a, &b], STORM)?;
        mesh.everyone_reaches_all()?;
        let clocks = [give_clock(&mut mesh, &a)?, give_clock(&mut mesh, &b)?];
        mesh.everyone_reaches_all()?;
        hear_the_time(&b)?;
        for clock in &clocks {
            clock.set("+10m")?;
        }
        wait::until(DEADLINE, "b sees that its clock has jumped", || warns(&b).is_ok_and(|warns| warns))?;
        wait::until(SIGNED_WITHIN, "b follows its organisation", || warns(&b).is_ok_and(|warns| !warns))?;
        let before = a.epoch("b")?;
        wait::until(DEADLINE, "b replaces its key again", || a.epoch("b").is_ok_and(|now| now > before))?;
        mesh.everyone_reaches_all()
    });
}

#[test]
fn a_daemon_that_ran_with_a_clock_far_ahead_is_reached_after_the_clock_was_set() {
    story("clock-forged", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        // Handshakes of a node that starts in the future must not make those it sends later look old.
        for wrong in ["+10y", "-1y"] {
            for time in [wrong, "+0"] {
                mesh.member_mut("b")?.daemon.kill()?;
                let mut command = b.meshd_command("")?;
                mesh_lab::clock::shift(&mut command, time)?;
                mesh.member_mut("b")?.daemon = b.meshd_from(command)?;
                std::thread::sleep(WRONG_FOR);
            }
            mesh.everyone_reaches_all()?;
        }
        Ok(())
    });
}

/// Waits until a host has received the time of its organisation: that is what its clock is held against.
fn hear_the_time(host: &Host) -> Result<()> {
    wait::until(SIGNED_WITHIN, "the state in hand is an old one", || {
        state_age(host).is_ok_and(|age| age >= 10)
    })?;
    wait::until(SIGNED_WITHIN, "a new state has come", || state_age(host).is_ok_and(|age| age <= 5))
}

/// Starts the daemon of a host again, with a clock that can be set.
fn give_clock<'lab>(mesh: &mut Mesh<'lab>, host: &'lab Host) -> Result<MovableClock> {
    mesh.member_mut(host.name())?.daemon.stop()?;
    let mut command = host.meshd_command(STORM)?;
    let clock = MovableClock::new(&mut command, host.dir().join("clock"))?;
    mesh.member_mut(host.name())?.daemon = host.meshd_from(command)?;
    Ok(clock)
}

fn echoes(host: &Host, target: &str) -> Result<Process> {
    host.start(&["ping", "-q", "-n", "-i", ECHO_EVERY_S, "-W", "5", target])
}

fn warns(host: &Host) -> Result<bool> {
    let status = host.ctl(&["status"])?.ok()?;
    let warnings = status["warnings"].as_array().context("warnings")?;
    Ok(warnings.iter().any(|warning| warning["code"] == "clock-suspect"))
}

/// Seconds since its organisation signed its state, as a host knows it.
fn state_age(host: &Host) -> Result<u64> {
    let status = host.ctl(&["status"])?.ok()?;
    let orgs = status["mesh"]["organisations"].as_array().context("organisations")?;
    orgs.first().and_then(|org| org["state_age_s"].as_u64()).context("an age")
}
