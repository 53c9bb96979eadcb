//! A mesh of two organisations, `clinic` and `lab`.

use anyhow::{Context, Result};
use mesh_lab::{Daemon, Host, Lab};

/// Founds a mesh as two administrators would: each makes a root, both sign one draft, each creates its part.
///
/// Gives back the daemons of both first hosts. `how` are further words for the draft.
pub fn found(around: &Lab, clinic: &Host, lab: &Host, config: &str, how: &[&str]) -> Result<[Daemon; 2]> {
    let daemons = [clinic.meshd(config)?, lab.meshd(config)?];
    // The public root lands where the organisation's name says, in the directory of the caller.
    let in_dir = |host: &Host, name: &str| host.dir().join(name).display().to_string();
    let (clinic_key, lab_key) = (in_dir(clinic, "clinic.root.key"), in_dir(lab, "lab.root.key"));
    let draft = around.dir().join("draft").display().to_string();
    clinic.ctl(&["org", "create", "clinic", "--root-key", &clinic_key])?.ok()?;
    lab.ctl(&["org", "create", "lab", "--root-key", &lab_key])?.ok()?;
    let first = format!("{}=10.91.0.0/16", in_dir(clinic, "clinic.root"));
    let second = format!("{}=10.92.0.0/16", in_dir(lab, "lab.root"));
    let line = ["mesh", "draft", "joint", "--org", &first, "--org", &second, "--out", &draft];
    clinic.ctl(&[&line, how].concat())?.ok()?;
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
    Ok(daemons)
}
