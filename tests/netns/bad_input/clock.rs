//! A clock that is off by a day.

use std::process::Command;

use anyhow::Result;
use mesh_lab::{Host, clock, story, wait};

use crate::exit::REFUSED;
use crate::watch::{DEADLINE, identity, is_outside, refused, started};

#[test]
fn a_host_whose_clock_is_off_by_a_day_keeps_its_token() {
    story("clock-join", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a])?;
        let token = mesh.token()?;
        for (offset, word) in [("-1d", "h behind"), ("+1d", "h ahead")] {
            let mut daemon = started(&b, shifted(&b, offset)?)?;
            let reply = b.ctl(&["join", &token])?;
            refused(&reply, REFUSED, &[word, "hint: set the clock"])?;
            is_outside(&b)?;
            daemon.stop(DEADLINE)?;
        }
        let _daemon = b.meshd("")?;
        b.ctl(&["join", &token])?.ok().map(drop)
    });
}

#[test]
fn a_member_whose_clock_was_off_by_a_day_is_as_before_once_it_is_right() {
    story("clock-member", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let before = identity(&b)?;
        for offset in ["-1d", "+1d"] {
            mesh.member_mut("b")?.daemon.stop()?;
            let mut wrong = started(&b, shifted(&b, offset)?)?;
            wrong.stop(DEADLINE)?;
            mesh.member_mut("b")?.daemon = b.meshd("")?;
            assert_eq!(identity(&b)?, before, "after {offset}");
            wait::until(DEADLINE, "b lists a", || b.peers().is_ok_and(|peers| peers.len() == 1))?;
            mesh.everyone_reaches_all()?;
        }
        Ok(())
    });
}

/// A daemon that reads another time of day.
fn shifted(host: &Host, offset: &str) -> Result<Command> {
    let mut command = host.meshd_command("")?;
    clock::shift(&mut command, offset)?;
    Ok(command)
}
