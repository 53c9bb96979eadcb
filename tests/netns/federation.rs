//! Two organisations in one mesh: each with a root and a steward of its own, none able to speak for the other.

#[path = "federation/founders.rs"]
mod founders;

use std::time::Duration;

use anyhow::Context;
use mesh_lab::{story, wait};

use founders::found;

const DEADLINE: Duration = Duration::from_secs(30);

#[test]
fn two_organisations_form_one_mesh_and_each_admits_its_own_hosts() {
    story("federation", |around| {
        let [c1, l1, l2] = around.hosts(["c1", "l1", "l2"])?;
        let _daemons = found(around, &c1, &l1, "", &[])?;
        let _daemon = l2.meshd("")?;
        let token = l1.ctl(&["invite"])?.ok()?;
        let token = token["token"].as_str().context("a token")?.to_owned();
        let joined = l2.ctl(&["join", &token, "--name", "l2"])?.ok()?;
        let address = joined["node"]["addr4"].as_str().context("an address")?;
        assert!(address.starts_with("10.92."), "l2 has an address of its own organisation: {address}");

        for host in [&c1, &l1, &l2] {
            let what = format!("{} is connected to both others", host.name());
            wait::until(DEADLINE, &what, || {
                host.peers().is_ok_and(|peers| {
                    peers.len() == 2 && peers.iter().all(|peer| peer["state"] == "connected")
                })
            })?;
        }
        assert!(c1.pings(address, 2)?, "the other organisation is reached over the overlay");
        let orgs: Vec<String> = c1.peers()?.iter().map(|peer| peer["org"].to_string()).collect();
        assert_eq!(orgs, ["\"lab\"", "\"lab\""]);
        Ok(())
    });
}

#[test]
fn a_steward_cannot_take_back_a_node_of_the_other_organisation() {
    story("federation-leave", |around| {
        let [c1, l1] = around.hosts(["c1", "l1"])?;
        let _daemons = found(around, &c1, &l1, "", &[])?;
        wait::until(DEADLINE, "both see each other", || {
            [&c1, &l1].iter().all(|host| host.peers().is_ok_and(|peers| peers.len() == 1))
        })?;
        // A steward is the last to go, and says so; forced, it takes nobody else along.
        l1.ctl(&["leave"])?.refused(7)?;
        l1.ctl(&["leave", "--force"])?.ok()?;
        let status = c1.ctl(&["status"])?.ok()?;
        assert_eq!(status["membership"], "member");
        let left = l1.ctl(&["status"])?.ok()?;
        assert_eq!(left["membership"], "outside");
        Ok(())
    });
}
