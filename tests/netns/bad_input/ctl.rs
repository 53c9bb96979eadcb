//! meshctl where it can't or may not be heard.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result};
use mesh_lab::{Host, Lab, Output, process, program, story};

use crate::exit::{CONFLICT, FAILED, NOT_FOUND, NOT_REACHABLE, REFUSED, USAGE};
use crate::watch::{DEADLINE, ended, identity, refused};

/// A user that is neither root nor of the group.
const NOBODY: [&str; 5] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"];

#[test]
fn an_absent_daemon_is_told() {
    story("absent", |lab| {
        let a = lab.host("a")?;
        refused(&a.ctl(&["status"])?, NOT_REACHABLE, &["can't reach the daemon", "systemctl start meshd"])?;
        // A file that nobody listens at any more.
        let mut daemon = a.meshd("")?;
        daemon.kill()?;
        assert!(a.socket().exists());
        refused(&a.ctl(&["status"])?, NOT_REACHABLE, &["can't reach the daemon"])?;
        let _daemon = a.meshd("")?;
        a.ctl(&["status"])?.ok().map(drop)
    });
}

#[test]
fn somebody_else_behind_the_socket_is_told() {
    story("garbage", |lab| {
        let a = lab.host("a")?;
        for answer in [
            &b""[..],
            b"220 mail ready\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n\xff\xfe\0\x01garba",
            b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n",
        ] {
            let listener = UnixListener::bind(a.socket())?;
            let stranger = thread::spawn(move || -> std::io::Result<()> {
                let (mut caller, _) = listener.accept()?;
                let _request = caller.read(&mut [0; 4096])?;
                caller.write_all(answer)
            });
            let reply = a.ctl(&["status"])?;
            fs::remove_file(a.socket())?;
            stranger.join().ok().context("the stranger panicked")??;
            refused(&reply, FAILED, &["can't understand the daemon's answer"])?;
        }
        Ok(())
    });
}

#[test]
fn a_user_who_is_neither_root_nor_of_the_group_is_refused() {
    story("stranger", |lab| {
        let a = lab.host("a")?;
        let mesh = lab.mesh("clinics", &[&a])?;
        let before = identity(&a)?;
        let open = opened(lab, &a, "meshctl")?;
        let ask = |verb: &[&str]| -> Result<Output> {
            let mut command = as_nobody(&open);
            command.arg("--socket").arg(a.socket()).args(verb);
            process::run_command(command, Some(a.namespace()), DEADLINE)
        };
        for verb in [&["status"][..], &["invite"], &["leave", "--force"]] {
            // The mode of the socket keeps them out; if somebody opens it, the daemon does.
            fs::set_permissions(a.socket(), Permissions::from_mode(0o600))?;
            ended(&ask(verb)?, REFUSED, &["group meshd"])?;
            fs::set_permissions(a.socket(), Permissions::from_mode(0o666))?;
            ended(&ask(verb)?, REFUSED, &["group meshd"])?;
        }
        assert_eq!(identity(&a)?, before);
        drop(mesh);
        Ok(())
    });
}

#[test]
fn a_daemon_without_rights_to_its_directories_does_not_start() {
    story("nobody", |lab| {
        let a = lab.host("a")?;
        let meshd = opened(lab, &a, "meshd")?;
        let start = |dir: &Path, socket: &Path| -> Result<Output> {
            let mut command = as_nobody(&meshd);
            command.arg("run").arg("--state-dir").arg(dir).arg("--socket").arg(socket);
            process::run_command(command, Some(a.namespace()), DEADLINE)
        };
        ended(&start(&a.state_dir(), &a.socket())?, FAILED, &["state", "Permission denied"])?;
        let own = lab.dir().join("own");
        fs::create_dir(&own)?;
        fs::set_permissions(&own, Permissions::from_mode(0o777))?;
        ended(&start(&own.join("state"), &a.socket())?, FAILED, &["control socket", "Permission denied"])?;
        assert!(fs::read_dir(a.state_dir())?.next().is_none());
        assert!(!a.socket().exists());
        Ok(())
    });
}

#[test]
fn verbs_that_do_not_fit_the_state_are_refused() {
    story("bad-state", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a])?;
        let _outside = b.meshd("")?;
        let before = identity(&a)?;
        for verb in [&["invite"][..], &["leave"], &["peers"], &["ping", "a"]] {
            refused(&b.ctl(verb)?, CONFLICT, &["not a member"])?;
        }
        refused(&a.ctl(&["leave"])?, CONFLICT, &["steward", "--force"])?;
        refused(&a.ctl(&["ping", "nobody"])?, NOT_FOUND, &["nobody"])?;
        refused(&a.ctl(&["invite", "--ttl", "25h"])?, USAGE, &[])?;
        refused(&a.ctl(&["join", "--import", "/dev/null"])?, USAGE, &["/dev/null"])?;
        assert_eq!(identity(&a)?, before);
        drop(mesh);
        Ok(())
    });
}

/// A copy of a program that everybody may run, on a host that everybody may look into.
fn opened(lab: &Lab, host: &Host, name: &str) -> Result<PathBuf> {
    let copy = lab.dir().join(name);
    fs::copy(program(name)?, &copy)?;
    let dirs = host.run_dir();
    for dir in dirs.ancestors().take_while(|dir| dir.starts_with(lab.dir())) {
        fs::set_permissions(dir, Permissions::from_mode(0o755))?;
    }
    Ok(copy)
}

fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(NOBODY.iter().skip(1)).arg(program);
    command
}
