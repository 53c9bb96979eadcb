//! Two organisations in one mesh: each with a root and a steward of its own, none able to speak for the other.

use std::time::Duration;

use anyhow::{Context, Result};
use mesh_lab::{Daemon, Host, Lab, story, wait};

const DEADLINE: Duration = Duration::from_secs(30);

/// The first hosts of two organisations, with their daemons.
struct Founders<'lab> {
    clinic: &'lab Host,
    lab: &'lab Host,
    _daemons: [Daemon; 2],
}

impl<'lab> Founders<'lab> {
    /// Founds a mesh as two administrators would: each makes a root, both sign one draft, each creates its part.
    fn found(around: &Lab, clinic: &'lab Host, lab: &'lab Host) -> Result<Self> {
        let daemons = [clinic.meshd("")?, lab.meshd("")?];
        // The public root lands where the organisation's name says, in the directory of the caller.
        let in_dir = |host: &Host, name: &str| host.dir().join(name).display().to_string();
        let (clinic_key, lab_key) = (in_dir(clinic, "clinic.root.key"), in_dir(lab, "lab.root.key"));
        let draft = around.dir().join("draft").display().to_string();
        clinic.ctl(&["org", "create", "clinic", "--root-key", &clinic_key])?.ok()?;
        lab.ctl(&["org", "create", "lab", "--root-key", &lab_key])?.ok()?;
        let first = format!("{}=10.91.0.0/16", in_dir(clinic, "clinic.root"));
        let second = format!("{}=10.92.0.0/16", in_dir(lab, "lab.root"));
        clinic.ctl(&["mesh", "draft", "joint", "--org", &first, "--org", &second, "--out", &draft])?.ok()?;
        clinic.ctl(&["mesh", "sign", &draft, "--root-key", &clinic_key])?.ok()?;

        // One signature is not the will of two.
        let early = ["mesh", "create", "--genesis", &draft, "--root-key", &clinic_key, "--node", "c1"];
        clinic.ctl(&early)?.refused(4)?;
        assert_eq!(clinic.ctl(&["status"])?.ok()?["membership"], "outside");

        lab.ctl(&["mesh", "sign", &draft, "--root-key", &lab_key])?.ok()?;
        clinic.ctl(&early)?.ok()?;
        let status = clinic.ctl(&["status"])?.ok()?;
        let registry = status["registry"]["endpoints"][0].as_str().context("a registry to share")?.to_owned();
        let line = [
            "mesh",
            "create",
            "--genesis",
            &draft,
            "--root-key",
            &lab_key,
            "--node",
            "l1",
            "--registry",
            &registry,
        ];
        lab.ctl(&line)?.ok()?;
        Ok(Self { clinic, lab, _daemons: daemons })
    }
}

#[test]
fn two_organisations_form_one_mesh_and_each_admits_its_own_hosts() {
    story("federation", |around| {
        let [c1, l1, l2] = around.hosts(["c1", "l1", "l2"])?;
        let founders = Founders::found(around, &c1, &l1)?;
        let _daemon = l2.meshd("")?;
        let token = founders.lab.ctl(&["invite"])?.ok()?;
        let token = token["token"].as_str().context("a token")?.to_owned();
        let joined = l2.ctl(&["join", &token, "--name", "l2"])?.ok()?;
        let address = joined["node"]["addr4"].as_str().context("an address")?;
        assert!(address.starts_with("10.92."), "l2 has an address of its own organisation: {address}");

        for host in [founders.clinic, founders.lab, &l2] {
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
        let founders = Founders::found(around, &c1, &l1)?;
        wait::until(DEADLINE, "both see each other", || {
            [founders.clinic, founders.lab]
                .iter()
                .all(|host| host.peers().is_ok_and(|peers| peers.len() == 1))
        })?;
        // A steward is the last to go, and says so; forced, it takes nobody else along.
        founders.lab.ctl(&["leave"])?.refused(7)?;
        founders.lab.ctl(&["leave", "--force"])?.ok()?;
        let status = founders.clinic.ctl(&["status"])?.ok()?;
        assert_eq!(status["membership"], "member");
        let left = founders.lab.ctl(&["status"])?.ok()?;
        assert_eq!(left["membership"], "outside");
        Ok(())
    });
}
