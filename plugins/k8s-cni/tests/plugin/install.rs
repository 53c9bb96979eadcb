//! `meshd-cni install`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::rig::{Daemon, Mood, Rig, Run, text};

#[test]
fn the_plugin_is_copied_and_works() {
    let rig = Rig::new();
    let run = install(&rig, &["--bin-dir", &dir(&rig, "bin")]);
    let path = rig.path("bin/meshd");
    assert_eq!((run.exit, run.stdout.trim()), (Some(0), text(&path).as_str()), "{run:?}");
    assert_eq!(fs::metadata(&path).expect("the plugin").permissions().mode() & 0o7777, 0o755);
    let output = Command::new(&path).env_clear().env("CNI_COMMAND", "VERSION").output().expect("the plugin");
    let versions: Value = serde_json::from_slice(&output.stdout).expect("a document");
    assert_eq!(versions["cniVersion"], "1.1.0");
    assert_eq!(names(&rig.path("bin")), ["meshd"], "nothing else is left behind");
}

#[test]
fn an_older_plugin_is_replaced_while_it_runs() {
    let rig = Rig::new();
    let bin = dir(&rig, "bin");
    assert_eq!(install(&rig, &["--bin-dir", &bin]).exit, Some(0));
    let mut command = Command::new(rig.path("bin/meshd"));
    command.env_clear().env("CNI_COMMAND", "DEL").stdin(std::process::Stdio::piped());
    let mut old = command.stdout(std::process::Stdio::null()).spawn().expect("the plugin");
    assert_eq!(install(&rig, &["--bin-dir", &bin]).exit, Some(0));
    drop(old.stdin.take());
    old.wait().expect("an end");
    assert_eq!(names(&rig.path("bin")), ["meshd"]);
}

#[test]
fn a_program_of_somebody_else_stays() {
    let rig = Rig::new();
    let bin = dir(&rig, "bin");
    fs::write(rig.path("bin/meshd"), "#!/bin/sh\n").expect("a file");
    let run = install(&rig, &["--bin-dir", &bin]);
    assert_eq!((run.exit, run.stdout.as_str()), (Some(1), ""));
    assert!(run.stderr.contains("is there and not meshd's"), "{run:?}");
    assert_eq!(fs::read(rig.path("bin/meshd")).expect("a file"), b"#!/bin/sh\n");
    fs::remove_file(rig.path("bin/meshd")).expect("a file");
    symlink(env!("CARGO_BIN_EXE_meshd-cni"), rig.path("bin/meshd")).expect("a link");
    assert_eq!(install(&rig, &["--bin-dir", &bin]).exit, Some(1), "a link is not followed");
}

#[test]
fn the_configuration_is_written_as_soon_as_meshd_is_ready() {
    let rig = Rig::new();
    let conf = dir(&rig, "net.d");
    let run = install(&rig, &["--conf-dir", &conf]);
    assert_eq!((run.exit, run.stdout.as_str()), (Some(1), ""));
    assert!(run.stderr.contains("meshd is not running"), "{run:?}");
    let daemon = Daemon::start(&rig.socket(), Mood::NotReady { questions: 9, is_connected: true });
    let run = install(&rig, &["--conf-dir", &conf]);
    assert_eq!(run.exit, Some(1));
    assert!(run.stderr.contains("the node has not joined a mesh; no configuration was written"), "{run:?}");
    assert_eq!(names(&rig.path("net.d")), Vec::<String>::new());
    daemon.set_mood(Mood::NotReady { questions: 2, is_connected: true });
    let run = install(&rig, &["--conf-dir", &conf, "--wait", "600"]);
    assert_eq!(run.exit, Some(0), "{run:?}");
    assert_eq!(names(&rig.path("net.d")), ["05-meshd.conflist"]);
}

#[test]
fn the_configuration_is_what_every_runtime_takes_and_the_plugin_accepts() {
    let rig = Rig::new();
    let daemon = Daemon::start(&rig.socket(), Mood::Well);
    let (conf, socket) = (dir(&rig, "net.d"), text(&rig.socket()));
    let run = install(
        &rig,
        &[
            "--conf-dir",
            &conf,
            "--pool4=10.202.0.0/16",
            "--pool6",
            "fd77:202::/64",
            "--allocation",
            "sequential",
            "--egress=none",
            "--reach=network",
            "--policy",
            "required",
            "--mtu",
            "1400",
            "--socket",
            &socket,
        ],
    );
    assert_eq!(run.exit, Some(0), "{run:?}");
    let list: Value = serde_json::from_slice(&fs::read(rig.path("net.d/05-meshd.conflist")).expect("a file"))
        .expect("a document");
    assert_eq!(list["cniVersion"], "1.0.0");
    assert_eq!(list["cniVersions"], json!(["0.4.0", "1.0.0", "1.1.0"]));
    let types: Vec<&Value> =
        list["plugins"].as_array().expect("plugins").iter().map(|one| &one["type"]).collect();
    assert_eq!(types, ["meshd", "portmap", "bandwidth"]);
    assert_eq!(list["plugins"][1]["snat"], true);
    // What a runtime makes of it.
    let mut first = list["plugins"][0].clone();
    first["name"] = list["name"].clone();
    first["cniVersion"] = list["cniVersion"].clone();
    rig.call("ADD", &first).result();
    let asked = daemon.asked();
    let (_, put) = asked.iter().find(|(path, _)| path.ends_with("/put")).expect("one");
    assert_eq!(
        put["network"],
        json!({"runtime": "cni", "network": "meshd", "pool4": "10.202.0.0/16", "pool6": "fd77:202::/64",
            "allocation": "sequential", "egress": "none", "mtu": 1400, "ranges": [],
            "reach": "network", "policy": "required"})
    );
}

#[test]
fn a_chain_has_the_plugins_that_are_there_and_the_versions_that_all_speak() {
    let rig = Rig::new();
    let _daemon = Daemon::start(&rig.socket(), Mood::Well);
    let (bin, conf) = (dir(&rig, "bin"), dir(&rig, "net.d"));
    let installed = || {
        let run = install(&rig, &["--bin-dir", &bin, "--conf-dir", &conf]);
        assert_eq!(run.exit, Some(0), "{run:?}");
        let bytes = fs::read(rig.path("net.d/05-meshd.conflist")).expect("a file");
        let list: Value = serde_json::from_slice(&bytes).expect("a document");
        let types: Vec<String> = list["plugins"].as_array().expect("plugins").iter().map(text_of).collect();
        (types, list["cniVersion"].clone(), list["cniVersions"].clone(), run.stderr)
    };
    let text_of_missing =
        |stderr: &str, name: &str| stderr.contains(&format!("bin/{name} is missing and left out"));

    let (types, first, versions, told) = installed();
    assert_eq!(
        (types, first, versions),
        (vec!["meshd".to_owned()], json!("1.0.0"), json!(["0.4.0", "1.0.0", "1.1.0"]))
    );
    assert!(text_of_missing(&told, "portmap") && text_of_missing(&told, "bandwidth"), "{told}");

    speaks(&rig, "portmap", r#"{"supportedVersions":["0.1.0","0.4.0","1.0.0","1.1.0","1.2.0"]}"#);
    speaks(&rig, "bandwidth", r#"{"supportedVersions":["0.3.0","0.4.0","1.0.0"]}"#);
    let (types, first, versions, told) = installed();
    assert_eq!(
        (types.join(" "), first, versions),
        ("meshd portmap bandwidth".to_owned(), json!("1.0.0"), json!(["0.4.0", "1.0.0"]))
    );
    assert!(told.contains("bin/bandwidth does not speak CNI 1.1.0: runtimes will not ask"), "{told}");

    speaks(&rig, "bandwidth", r#"{"supportedVersions":["0.4.0"]}"#);
    let (_, first, versions, _) = installed();
    assert_eq!((first, versions), (json!("0.4.0"), json!(["0.4.0"])));

    let before = fs::read(rig.path("net.d/05-meshd.conflist")).expect("a file");
    for (says, told) in [
        (r#"{"supportedVersions":["0.2.0"]}"#, "have no version of CNI in common with this one"),
        (r#"{"code":4}"#, "bin/bandwidth does not tell its versions"),
        ("nonsense", "bin/bandwidth does not tell its versions"),
    ] {
        speaks(&rig, "bandwidth", says);
        let run = install(&rig, &["--bin-dir", &bin, "--conf-dir", &conf]);
        assert_eq!(run.exit, Some(1), "{run:?}");
        assert!(run.stderr.contains(told), "{run:?}");
    }
    assert_eq!(fs::read(rig.path("net.d/05-meshd.conflist")).expect("a file"), before);
}

#[test]
fn a_wrong_setting_installs_nothing() {
    let rig = Rig::new();
    let _daemon = Daemon::start(&rig.socket(), Mood::Well);
    let (bin, conf) = (dir(&rig, "bin"), dir(&rig, "net.d"));
    for (wrong, told) in [
        (["--egress", "nat"], "egress is \"nat\""),
        (["--policy", "yes"], "policy is \"yes\""),
        (["--mtu", "70000"], "mtu is 70000"),
        (["--allocation", "blocks"], "allocation needs pool4 or pool6"),
        (["--name", "../x"], "name is \"../x\""),
    ] {
        let run = install(&rig, &[&["--bin-dir", &bin, "--conf-dir", &conf], &wrong[..]].concat());
        assert_eq!(run.exit, Some(1), "{run:?}");
        assert!(run.stderr.contains(told), "{run:?}");
    }
    assert_eq!((names(&rig.path("bin")).len(), names(&rig.path("net.d")).len()), (0, 0));
}

#[test]
fn only_a_configuration_of_the_same_network_is_replaced() {
    let rig = Rig::new();
    let _daemon = Daemon::start(&rig.socket(), Mood::Well);
    let conf = dir(&rig, "net.d");
    let path = rig.path("net.d/05-meshd.conflist");
    assert_eq!(install(&rig, &["--conf-dir", &conf, "--mtu", "1300"]).exit, Some(0));
    assert_eq!(install(&rig, &["--conf-dir", &conf, "--mtu", "1400"]).exit, Some(0));
    assert!(fs::read_to_string(&path).expect("a file").contains("1400"));
    let run = install(&rig, &["--conf-dir", &conf, "--name", "other"]);
    assert_eq!(run.exit, Some(1));
    assert!(run.stderr.contains("is of network \"meshd\", not \"other\""), "{run:?}");
    for foreign in ["", "{}", r#"{"name":"meshd","plugins":[{"type":"bridge"}]}"#] {
        fs::write(&path, foreign).expect("a file");
        let run = install(&rig, &["--conf-dir", &conf]);
        assert_eq!(run.exit, Some(1));
        assert!(run.stderr.contains("is there and not meshd's"), "{run:?}");
        assert_eq!(fs::read_to_string(&path).expect("a file"), foreign);
    }
}

#[test]
fn a_configuration_that_runtimes_prefer_is_told() {
    let rig = Rig::new();
    let _daemon = Daemon::start(&rig.socket(), Mood::Well);
    let conf = dir(&rig, "net.d");
    for name in ["00-other.conf", "04-note.txt", "99-later.conflist"] {
        fs::write(Path::new(&conf).join(name), "{}").expect("a file");
    }
    let run = install(&rig, &["--conf-dir", &conf]);
    assert_eq!(run.exit, Some(0));
    assert_eq!(
        run.stderr,
        "meshd-cni: 00-other.conf comes before 05-meshd.conflist: runtimes use it instead\n"
    );
}

#[test]
fn what_is_typed_wrong_is_told_with_its_own_exit_code() {
    let rig = Rig::new();
    let run = words(&rig, &["instal"]);
    assert_eq!((run.exit, run.stdout.as_str()), (Some(2), ""));
    assert_eq!(run.stderr, "meshd-cni: unknown command \"instal\"; see meshd-cni --help\n");
    assert!(words(&rig, &["--help"]).stdout.contains("--conf-dir DIR"));
    assert!(words(&rig, &["--version"]).stdout.contains(env!("CARGO_PKG_VERSION")));
}

/// A plugin that answers every question with these words.
fn speaks(rig: &Rig, name: &str, words: &str) {
    let path = rig.path("bin").join(name);
    fs::write(&path, format!("#!/bin/sh\nread -r question\necho '{words}'\n")).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a program");
}

fn text_of(plugin: &Value) -> String {
    plugin["type"].as_str().expect("a type").to_owned()
}

fn install(rig: &Rig, options: &[&str]) -> Run {
    let socket = text(&rig.socket());
    let explicit = options.contains(&"--socket");
    let socket: &[&str] = if explicit { &[] } else { &["--socket", &socket] };
    words(rig, &[&["install"], options, socket].concat())
}

fn words(rig: &Rig, words: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshd-cni"));
    command.env_clear().current_dir(rig.path("")).args(words);
    let output = command.output().expect("the plugin");
    Run {
        exit: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

fn dir(rig: &Rig, name: &str) -> String {
    let path = rig.path(name);
    fs::create_dir(&path).expect("a directory");
    text(&path)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}
