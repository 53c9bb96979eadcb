//! Bad input: one clear error, nothing changed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use anyhow::Result;
use mesh_lab::{Output, process, program, story};

/// Exit codes of meshctl.
const USAGE: i32 = 2;
const NOT_REACHABLE: i32 = 3;
const REFUSED: i32 = 4;
const NOT_FOUND: i32 = 5;
const CONFLICT: i32 = 7;

#[test]
fn bad_tokens_are_refused_and_leave_the_host_outside() {
    story("bad-tokens", |lab| {
        let [a, b, c] = lab.hosts(["a", "b", "c"])?;
        let mut mesh = lab.mesh("clinics", &[&a])?;
        let _outside = b.meshd("")?;
        let good = mesh.token()?;
        let truncated = good.get(..good.len() - 4).unwrap_or_default().to_owned();
        let mut wrong = good.clone();
        // The last letter may hold unused bits, the one before does not.
        let at = wrong.len() - 2;
        let other = if wrong.get(at..=at) == Some("a") { "b" } else { "a" };
        wrong.replace_range(at..=at, other);
        for token in ["", "nonsense", &truncated, &wrong] {
            let reply = b.ctl(&["join", token])?;
            assert!([USAGE, REFUSED].contains(&reply.code), "{token}: {:?}", reply.output);
            reply.refused(reply.code)?;
        }
        let daemon = c.meshd("")?;
        let used = mesh.token()?;
        c.ctl(&["join", &used])?.ok()?;
        b.ctl(&["join", &used])?.refused(REFUSED)?;
        assert_eq!(b.ctl(&["status"])?.ok()?["membership"], "outside");
        b.ctl(&["join", &good])?.ok()?;
        drop(daemon);
        mesh.members.truncate(1);
        Ok(())
    });
}

#[test]
fn verbs_that_do_not_fit_the_state_are_refused() {
    story("bad-state", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        assert_eq!(a.ctl(&["status"])?.code, NOT_REACHABLE);
        let mesh = lab.mesh("clinics", &[&a])?;
        let _outside = b.meshd("")?;
        b.ctl(&["invite"])?.refused(CONFLICT)?;
        b.ctl(&["leave"])?.refused(CONFLICT)?;
        a.ctl(&["ping", "nobody"])?.refused(NOT_FOUND)?;
        let token = mesh.token()?;
        a.ctl(&["join", &token])?.refused(CONFLICT)?;
        assert!(a.ctl(&["status"])?.ok()?["mesh"].is_object());
        Ok(())
    });
}

#[test]
fn a_second_daemon_on_a_state_directory_is_refused_by_name() {
    story("second-daemon", |lab| {
        let a = lab.host("a")?;
        let mut daemon = a.meshd("")?;
        let output = a.meshd_ends("[control]\nlisten = \"[::]:7999\"\n[tunnel]\nport = 51999\n")?;
        one_error(&output)?;
        assert!(daemon.runs());
        assert_eq!(a.ctl(&["status"])?.code, 0, "the first one goes on");
        Ok(())
    });
}

#[test]
fn an_unknown_key_in_the_configuration_is_named() {
    story("unknown-key", |lab| {
        let a = lab.host("a")?;
        let output = a.meshd_ends("[tunnel]\nprot = 51820\n")?;
        assert_ne!(output.code, 0);
        assert!(output.stderr.contains("prot"), "{}", output.stderr);
        assert!(fs::read_dir(a.state_dir())?.next().is_none(), "nothing was written");
        Ok(())
    });
}

#[test]
fn a_state_directory_that_others_may_read_is_closed_or_refused() {
    story("modes", |lab| {
        let a = lab.host("a")?;
        fs::set_permissions(a.state_dir(), fs::Permissions::from_mode(0o755))?;
        match a.meshd("") {
            Ok(_daemon) => assert_eq!(fs::metadata(a.state_dir())?.permissions().mode() & 0o777, 0o700),
            Err(error) => assert!(format!("{error:#}").contains("error"), "{error:#}"),
        }
        Ok(())
    });
}

#[test]
fn a_prefix_that_overlaps_a_local_route_is_refused() {
    story("overlap", |lab| {
        let a = lab.host("a")?;
        a.namespace().ip("link add lan0 type dummy\naddr add 10.91.3.1/24 dev lan0\nlink set lan0 up\n")?;
        let daemon = a.meshd("")?;
        let key = a.dir().join("root.key").display().to_string();
        let reply = a.ctl(&["mesh", "create", "clinics", "--root-key", &key])?;
        reply.refused(CONFLICT)?;
        assert!(reply.output.stderr.contains("lan0") || reply.output.stderr.contains("10.91.3"));
        assert_eq!(a.ctl(&["status"])?.ok()?["membership"], "outside");
        drop(daemon);
        Ok(())
    });
}

#[test]
fn a_taken_port_is_one_clear_error() {
    story("port-taken", |lab| {
        let a = lab.host("a")?;
        let _taken = a.namespace().run(|| std::net::UdpSocket::bind("[::]:51820"))??;
        match a.meshd("") {
            Err(error) => assert!(format!("{error:#}").contains("51820"), "{error:#}"),
            Ok(_daemon) => {
                let key = a.dir().join("root.key").display().to_string();
                let reply = a.ctl(&["mesh", "create", "clinics", "--root-key", &key])?;
                reply.refused(1)?;
                assert!(reply.output.stderr.contains("51820"), "{}", reply.output.stderr);
                assert_eq!(a.ctl(&["status"])?.ok()?["membership"], "outside");
            }
        }
        Ok(())
    });
}

#[test]
fn a_full_disk_never_half_writes_state() {
    story("full-disk", |lab| {
        let a = lab.host("a")?;
        a.small_disk(64 << 10)?;
        let ballast = a.state_dir().join("ballast");
        match a.meshd("") {
            Ok(mut daemon) => {
                // Whatever is left of the disk.
                let _full = fs::write(&ballast, vec![0; 64 << 10]);
                let key = a.dir().join("root.key").display().to_string();
                let reply = a.ctl(&["mesh", "create", "clinics", "--root-key", &key])?;
                assert_ne!(reply.code, 0);
                reply.refused(reply.code)?;
                daemon.stop()?;
                fs::remove_file(&ballast)?;
                let _again = a.meshd("")?;
                assert_eq!(a.ctl(&["status"])?.ok()?["membership"], "outside");
            }
            Err(error) => assert!(!format!("{error:#}").contains("panicked"), "{error:#}"),
        }
        Ok(())
    });
}

#[test]
fn no_privilege_is_one_clear_error() {
    story("no-privilege", |lab| {
        let a = lab.host("a")?;
        let dir = std::env::temp_dir().join(format!("mesh-lab-{}", lab.id()));
        fs::create_dir(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777))?;
        let meshd = dir.join("meshd");
        fs::copy(program("meshd")?, &meshd)?;
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]).arg(&meshd);
        command.arg("run").arg("--state-dir").arg(dir.join("state")).arg("--socket").arg(dir.join("sock"));
        let output = process::run_command(command, Some(a.namespace()), std::time::Duration::from_secs(10));
        fs::remove_dir_all(&dir)?;
        one_error(&output?)
    });
}

#[test]
fn a_corrupt_state_file_never_panics_the_daemon() {
    story("corrupt", |lab| {
        let a = lab.host("a")?;
        let mut mesh = lab.mesh("clinics", &[&a])?;
        mesh.member_mut("a")?.daemon.stop()?;
        let files: Vec<_> = fs::read_dir(a.state_dir())?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.is_file() && path.metadata().is_ok_and(|meta| meta.len() > 0))
            .collect();
        assert!(!files.is_empty());
        for path in files {
            let good = fs::read(&path)?;
            let mut bad = good.clone();
            let middle = bad.len() / 2;
            if let Some(byte) = bad.get_mut(middle) {
                *byte ^= 0x55;
            }
            fs::write(&path, &bad)?;
            match a.meshd("") {
                Ok(mut daemon) => {
                    assert!(!daemon.log().contains("panicked"), "{}: {}", path.display(), daemon.log());
                    daemon.stop()?;
                }
                Err(error) => assert!(!format!("{error:#}").contains("panicked"), "{error:#}"),
            }
            fs::write(&path, &good)?;
        }
        Ok(())
    });
}

/// A failed start: a code other than zero, an error on one line, and no panic.
fn one_error(output: &Output) -> Result<()> {
    let Output { code, stderr, .. } = output;
    let errors = stderr.lines().filter(|line| line.starts_with("error: ")).count();
    assert_ne!(*code, 0);
    assert_eq!(errors, 1, "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    Ok(())
}
