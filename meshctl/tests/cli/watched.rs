//! A log that is followed while it grows.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::audit::{put_log, steward};
use crate::made::{Dir, Mesh, PERIOD};
use crate::meshctl_in;

#[test]
fn a_log_is_looked_at_once() {
    let (dir, mesh) = steward();
    let at = mesh.now.to_string();
    let args = ["audit", "watch", "--log", "care.log", "--for", "0s", "--at", &at];
    insta::assert_snapshot!("audit-watch", meshctl_in(dir.path(), &args).to_text());
    let late = (mesh.now + 2 * PERIOD).to_string();
    let args = ["audit", "watch", "--log", "care.log", "--for", "0s", "--at", &late];
    insta::assert_snapshot!("audit-watch-late", meshctl_in(dir.path(), &args).to_text());
    fs::write(dir.path().join("care.bundle"), mesh.bundle()).expect("written");
    let run = meshctl_in(dir.path(), &["audit", "watch", "--bundle", "care.bundle", "--for", "0s"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "a bundle does not grow: {run:?}");
    let run = meshctl_in(dir.path(), &["audit", "watch", "--log", "nowhere", "--for", "0s"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
}

#[test]
fn new_leaves_are_told_until_it_is_interrupted() {
    let dir = tempfile::tempdir().expect("a directory");
    let mesh = Mesh::lived(1, 1);
    put_log(&dir.path().join("care.log"), &mesh, 0);
    let mut watch = Watching::start(dir.path(), mesh.now + PERIOD);
    let begin = watch.next();
    assert_eq!((&begin["type"], &begin["verdict"]), (&"begin".into(), &"clean".into()), "{begin}");
    assert_eq!(begin["leaves"], mesh.orgs[0].leaves.len());
    let mut later = mesh.clone();
    later.now += 1000;
    later.enrol("printer", 0);
    later.checkpoint();
    grow(&dir.path().join("care.log"), &later);
    let id = later.nodes[2].id.to_string();
    for kind in ["enrol", "rotate-activate"] {
        let leaf = watch.next();
        assert_eq!(
            (&leaf["type"], &leaf["kind"], &leaf["subject"]),
            (&"leaf".into(), &kind.into(), &json!(id))
        );
    }
    // A rule that is broken is told once, after the leaf that breaks it.
    later.announce(2, 4);
    later.checkpoint();
    grow(&dir.path().join("care.log"), &later);
    assert_eq!(watch.next()["kind"], "rotate-announce");
    let finding = watch.next();
    assert_eq!((&finding["type"], &finding["code"]), (&"finding".into(), &"GAP".into()), "{finding}");
    later.renew(2);
    later.checkpoint();
    grow(&dir.path().join("care.log"), &later);
    let leaf = watch.next();
    assert_eq!(
        (&leaf["kind"], &leaf["name"]),
        (&"renew".into(), &"printer".into()),
        "the audit has told its name"
    );
    watch.interrupt();
    let rest = watch.rest();
    assert_eq!(rest.len(), 1, "{rest:?}");
    let leaves = later.orgs[0].leaves.len();
    assert_eq!((&rest[0]["verdict"], &rest[0]["leaves"]), (&"findings".into(), &leaves.into()));
    assert_eq!(watch.child.wait().expect("it ends").code(), Some(2));
}

#[test]
fn tampering_ends_it_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let mesh = Mesh::lived(1, 1);
    put_log(&dir.path().join("care.log"), &mesh, 0);
    let mut watch = Watching::start(dir.path(), mesh.now + PERIOD);
    assert_eq!(watch.next()["verdict"], "clean");
    let mut other = mesh.clone();
    other.orgs[0].leaves[3].0.time.0 += 1;
    other.renew(0);
    other.orgs[0].notes.clear();
    other.checkpoint();
    grow(&dir.path().join("care.log"), &other);
    let finding = watch.next();
    assert_eq!((&finding["type"], &finding["code"]), (&"finding".into(), &"ROOT".into()), "{finding}");
    let rest = watch.rest();
    let end = rest.last().expect("a last line");
    assert_eq!((&end["type"], &end["verdict"]), (&"end".into(), &"tampering".into()), "{rest:?}");
    assert!(rest.iter().all(|line| line["type"] != "leaf"), "nothing of it is told as signed: {rest:?}");
    assert_eq!(watch.child.wait().expect("it ends").code(), Some(3));
}

/// meshctl that follows `care.log` in a directory, and ends by itself in any case.
struct Watching {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watching {
    fn start(dir: &Path, at: u64) -> Self {
        let at = at.to_string();
        let mut child = Command::new(env!("CARGO_BIN_EXE_meshctl"))
            .args([
                "--json", "audit", "watch", "--log", "care.log", "--every", "20ms", "--for", "60s", "--at",
                &at,
            ])
            .current_dir(dir)
            .stdout(Stdio::piped())
            .spawn()
            .expect("meshctl runs");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> Value {
        let line = self.lines.next().expect("a line more").expect("text");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(line["schema"], "meshctl.audit-watch/1");
        line
    }

    fn rest(&mut self) -> Vec<Value> {
        let lines = self.lines.by_ref().map(|line| line.expect("text"));
        lines.map(|line| serde_json::from_str(&line).expect("JSON")).collect()
    }

    /// Presses ctrl-c.
    fn interrupt(&self) {
        let pid = self.child.id().to_string();
        let killed = Command::new("kill").args(["-INT", &pid]).status().expect("kill runs");
        assert!(killed.success());
    }
}

/// Writes a log as a steward does: the checkpoint last, and as a whole.
fn grow(log: &Path, mesh: &Mesh) {
    let Dir(mut files) = mesh.orgs[0].dir();
    let checkpoint = files.remove("checkpoint").expect("a checkpoint");
    let write = |path: &str, bytes: &[u8]| {
        let (path, beside) = (log.join(path), log.join("beside"));
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(&beside, bytes).expect("written");
        fs::rename(beside, path).expect("moved");
    };
    files.iter().for_each(|(path, bytes)| write(path, bytes));
    write("checkpoint", &checkpoint);
}
