//! Configurations, directories and sockets that a daemon does not start with.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use mesh_lab::{process, program, story};

use crate::exit::{FAILED, USAGE};
use crate::watch::{DEADLINE, ended, files, identity};

#[test]
fn a_wrong_configuration_is_refused_by_key_and_place() {
    story("config", |lab| {
        let a = lab.host("a")?;
        for (config, words) in [
            ("[tunnel]\nprot = 51820\n", ["prot", "meshd.toml"]),
            ("colour = 1\n", ["colour", "meshd.toml"]),
            ("[tunnel]\nport = \"much\"\n", ["port", "meshd.toml"]),
            ("[tunnel]\nport = 65536\n", ["65536", "meshd.toml"]),
            ("this is no toml\n", ["line 1", "meshd.toml"]),
            ("[tunnel]\nmtu = 100\n", ["tunnel.mtu", "1280"]),
            ("[control]\nlisten = \"here\"\n", ["control.listen", "here"]),
        ] {
            let output = a.meshd_ends(config)?;
            ended(&output, USAGE, &words)?;
            ended(&output, USAGE, &["hint: `meshd check-config`"])?;
            let mut check = Command::new(program("meshd")?);
            check.args(["check-config", "--config"]).arg(a.dir().join("meshd.toml"));
            ended(&process::run_command(check, Some(a.namespace()), DEADLINE)?, USAGE, &words)?;
        }
        let mut absent = Command::new(program("meshd")?);
        absent.args(["run", "--config", "/nowhere/meshd.toml"]);
        let output = process::run_command(absent, Some(a.namespace()), DEADLINE)?;
        ended(&output, USAGE, &["/nowhere/meshd.toml", "No such file"])?;
        assert!(fs::read_dir(a.state_dir())?.next().is_none(), "nothing was written");
        assert!(!a.socket().exists());
        Ok(())
    });
}

#[test]
fn a_second_daemon_on_a_state_directory_is_told_who_holds_it() {
    story("second-daemon", |lab| {
        let a = lab.host("a")?;
        let mesh = lab.mesh("clinics", &[&a])?;
        let before = identity(&a)?;
        let lock = fs::read_to_string(a.state_dir().join("lock"))?;
        let output = a.meshd_ends("[control]\nlisten = \"[::]:7999\"\n[tunnel]\nport = 51999\n")?;
        ended(&output, FAILED, &["in use by another meshd", lock.trim()])?;
        assert!(lock.starts_with("pid "), "{lock}");
        assert_eq!(fs::read_to_string(a.state_dir().join("lock"))?, lock);
        assert_eq!(identity(&a)?, before);
        drop(mesh);
        Ok(())
    });
}

#[test]
fn a_second_daemon_on_a_socket_is_refused_and_the_first_still_heard() {
    story("second-socket", |lab| {
        let a = lab.host("a")?;
        let mesh = lab.mesh("clinics", &[&a])?;
        let before = identity(&a)?;
        let mut second = Command::new(program("meshd")?);
        second.args(["run", "--state-dir"]).arg(a.dir().join("other")).arg("--socket").arg(a.socket());
        let output = process::run_command(second, Some(a.namespace()), DEADLINE)?;
        ended(&output, FAILED, &["control socket", &a.socket().display().to_string(), "in use"])?;
        assert_eq!(identity(&a)?, before);
        drop(mesh);
        Ok(())
    });
}

#[test]
fn state_that_others_may_read_is_refused() {
    story("modes", |lab| {
        let a = lab.host("a")?;
        let mut mesh = lab.mesh("clinics", &[&a])?;
        mesh.member_mut("a")?.daemon.stop()?;
        let before = files(&a.state_dir())?;
        let state = a.state_dir();
        let places =
            [(state.clone(), 0o700, 0o755), (state.join("steward"), 0o700, 0o710)].into_iter().chain(
                ["membership.a", "roster.b", "registry.redb"].map(|name| (state.join(name), 0o600, 0o640)),
            );
        for (path, strict, loose) in places {
            fs::set_permissions(&path, Permissions::from_mode(loose))?;
            let words =
                [&path.display().to_string(), &format!("{loose:04o}"), &format!("chmod {strict:04o}")];
            ended(&a.meshd_ends("")?, FAILED, &words.map(String::as_str))?;
            assert_eq!(
                fs::metadata(&path)?.permissions().mode() & 0o777,
                loose,
                "it is not for meshd to change"
            );
            fs::set_permissions(&path, Permissions::from_mode(strict))?;
        }
        assert!(files(&a.state_dir())? == before);
        let _daemon = a.meshd("")?;
        Ok(())
    });
}

#[test]
fn a_state_directory_that_is_none_is_refused() {
    story("no-dir", |lab| {
        let a = lab.host("a")?;
        let file = a.dir().join("file");
        fs::write(&file, "something else")?;
        fs::set_permissions(&file, Permissions::from_mode(0o600))?;
        for dir in [file.clone(), file.join("below"), "/proc/meshd".into()] {
            let mut command = Command::new(program("meshd")?);
            command.args(["run", "--state-dir"]).arg(&dir).arg("--socket").arg(a.socket());
            let output = process::run_command(command, Some(a.namespace()), DEADLINE)?;
            ended(&output, FAILED, &[&dir.display().to_string()])?;
        }
        assert_eq!(fs::read_to_string(&file)?, "something else");
        assert!(!a.socket().exists());
        Ok(())
    });
}
