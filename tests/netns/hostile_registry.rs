//! A registry that lies: an etcd in the hands of an attacker, who may write, replay, withhold and delete at will.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_lab::{EchoCount, Etcd, Host, Mesh, Process, story, wait};
use nix::sys::signal::Signal;

const DEADLINE: Duration = Duration::from_secs(30);
/// Nodes republish what a registry lost within this time.
const REPUBLISH_DEADLINE: Duration = Duration::from_secs(60);

/// An etcd, and somebody who owns it.
struct Attacker<'lab> {
    host: &'lab Host,
    etcd: Etcd<'lab>,
}

impl<'lab> Attacker<'lab> {
    fn on(host: &'lab Host) -> Result<Self> {
        Ok(Self { host, etcd: Etcd::start(host)? })
    }

    /// All keys with their values.
    fn values(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let text = self.etcd.ctl("get / --prefix -w json")?;
        let json: serde_json::Value = serde_json::from_str(&text).context("read etcd's keys")?;
        let mut values = BTreeMap::new();
        for entry in json.get("kvs").and_then(|kvs| kvs.as_array()).into_iter().flatten() {
            let bytes = |name: &str| entry.get(name).and_then(|text| text.as_str()).and_then(base64);
            if let (Some(key), Some(value)) = (bytes("key"), bytes("value")) {
                values.insert(String::from_utf8_lossy(&key).into_owned(), value);
            }
        }
        Ok(values)
    }

    fn put(&self, key: &str, value: &[u8]) -> Result<()> {
        let file = self.host.dir().join("value");
        fs::write(&file, value)?;
        self.etcd.ctl(&format!("put '{key}' < {}", file.display())).map(drop)
    }
}

#[test]
fn nothing_that_an_attacker_writes_is_used_and_each_attempt_is_counted() {
    story("hostile-registry", |lab| {
        let [r, a, b, c] = lab.hosts(["r", "a", "b", "c"])?;
        let attacker = Attacker::on(&r)?;
        let mesh = lab.mesh_with("clinics", &[&a, &b, &c], &attacker.etcd.config())?;
        mesh.everyone_sees_all()?;
        mesh.everyone_reaches_all()?;
        let other_mesh = foreign_records(lab, &attacker)?;
        let honest = attacker.values()?;
        let (key_b, key_c) = (peer_key(&mesh, &honest, "b")?, peer_key(&mesh, &honest, "c")?);
        let (bundle_b, bundle_c) = (honest[&key_b].clone(), honest[&key_c].clone());
        let ours = key_b.split("/p/").next().unwrap_or_default();
        let honest: BTreeMap<_, _> = honest.into_iter().filter(|(key, _)| key.starts_with(ours)).collect();
        let state_key = find(&honest, "/state")?;
        let old_state = honest[&state_key].clone();
        pass_through(&mesh, &lab.host("d")?, &attacker.etcd.config())?;
        wait::until(DEADLINE, "the steward signs a newer state", || {
            attacker.values().is_ok_and(|now| now.get(&state_key).is_some_and(|state| *state != old_state))
        })?;

        wait::until(DEADLINE, "c has heard that d has left", || {
            c.peers().is_ok_and(|peers| peers.iter().all(|peer| peer["name"] != "d"))
        })?;
        let mut pinging = b.start(&ping_line(&mesh, "c")?)?;
        let before = c.peers()?;
        let unknown =
            key_b.rsplit_once('/').map_or("", |(prefix, _)| prefix).to_owned() + "/" + &"a".repeat(52);
        let attacks: [(&str, String, Vec<u8>, &[&str]); 8] = [
            ("a key of another node's bundle is swapped", key_b.clone(), flip_key(&bundle_b), BAD),
            ("another node's records stand at b's key", key_b.clone(), bundle_c.clone(), &["misplaced"]),
            ("a node of another mesh is inserted", unknown.clone(), other_mesh, FOREIGN),
            ("an old state is replayed", state_key.clone(), old_state, &["stale"]),
            ("garbage", key_c.clone(), b"\xff\x00garbage\x9f\x9f".to_vec(), &["malformed"]),
            ("a bundle is cut short", key_c.clone(), bundle_c[..bundle_c.len() / 2].to_vec(), &["malformed"]),
            ("a value is far too large", key_c.clone(), vec![0x82; 200 * 1024], &["too-large", "malformed"]),
            ("nested arrays without end", key_b.clone(), vec![0x81; 60 * 1024], &["malformed"]),
        ];
        for (what, key, value, reasons) in attacks {
            let counted = refusals(&a, reasons)?;
            attacker.put(&key, &value).with_context(|| what.to_owned())?;
            wait::until(DEADLINE, what, || refusals(&a, reasons).is_ok_and(|now| now > counted))?;
            let name = key.rsplit('/').next().unwrap_or_default();
            let log = mesh.member("a")?.daemon.log();
            let named = log.lines().any(|line| line.contains("refused a record") && line.contains(name));
            assert!(named, "no warning names {key} after: {what}");
        }
        // What an owner finds changed at its own key, it puts back.
        for (key, value) in [(&key_b, &bundle_b), (&key_c, &bundle_c)] {
            wait::until(REPUBLISH_DEADLINE, "owners restore their records", || {
                attacker.values().is_ok_and(|now| now.get(key) == Some(value))
            })?;
        }

        assert_eq!(without_counts(before), without_counts(c.peers()?), "the attacks changed what c believes");
        no_loss(&b, &mut pinging)?;
        mesh.everyone_reaches_all()
    });
}

#[test]
fn a_registry_that_withholds_or_forgets_everything_loses_no_packet_and_is_filled_again() {
    story("forgetful-registry", |lab| {
        let [r, a, b, c] = lab.hosts(["r", "a", "b", "c"])?;
        let attacker = Attacker::on(&r)?;
        let mesh = lab.mesh_with("clinics", &[&a, &b, &c], &attacker.etcd.config())?;
        mesh.everyone_sees_all()?;
        mesh.everyone_reaches_all()?;
        wait::until(DEADLINE, "every node has published", || {
            attacker.values().is_ok_and(|values| values.keys().filter(|key| key.contains("/e/")).count() == 3)
        })?;
        let honest: Vec<String> = attacker.values()?.into_keys().collect();
        let mut pinging = b.start(&ping_line(&mesh, "c")?)?;
        attacker.etcd.ctl("del / --prefix")?;
        wait::until(REPUBLISH_DEADLINE, "every record is back", || {
            attacker.values().is_ok_and(|now| honest.iter().all(|key| now.contains_key(key)))
        })?;
        assert_eq!(c.peers()?.len(), 2, "a forgetful registry made c forget");
        no_loss(&b, &mut pinging)
    });
}

/// Refusals that do not verify, whatever the byte was that changed.
const BAD: &[&str] = &["bad-signature", "malformed", "invalid"];
/// Refusals of what belongs elsewhere.
const FOREIGN: &[&str] =
    &["bad-signature", "unknown-org", "unknown-signer", "other-mesh", "missing-parent", "misplaced"];

/// A bundle of a node in another, honest mesh.
fn foreign_records(lab: &mesh_lab::Lab, attacker: &Attacker<'_>) -> Result<Vec<u8>> {
    let stranger = lab.host("stranger")?;
    let ours: Vec<String> = attacker.values()?.into_keys().collect();
    let _mesh = lab.mesh_with("strangers", &[&stranger], &attacker.etcd.config())?;
    wait::until_some(DEADLINE, "the stranger has published", || {
        let values = attacker.values().ok()?;
        values.into_iter().find(|(key, _)| key.contains("/p/") && !ours.contains(key)).map(|(_, value)| value)
    })
}

/// Lets a host join and leave: the steward revokes it and signs its organisation's state anew.
fn pass_through(mesh: &Mesh<'_>, host: &Host, config: &str) -> Result<()> {
    let _daemon = host.meshd(config)?;
    host.ctl(&["join", &mesh.token()?])?.ok()?;
    host.ctl(&["leave"])?.ok().map(drop)
}

fn peer_key(mesh: &Mesh<'_>, values: &BTreeMap<String, Vec<u8>>, name: &str) -> Result<String> {
    let status = mesh.member(name)?.host.ctl(&["status"])?.ok()?;
    let id = status.pointer("/node/id").and_then(|id| id.as_str()).context("a node without an id")?;
    find(values, &format!("/p/{id}"))
}

fn find(values: &BTreeMap<String, Vec<u8>>, end: &str) -> Result<String> {
    values.keys().find(|key| key.ends_with(end)).cloned().with_context(|| format!("no key ends with {end}"))
}

/// Changes one bit in the middle of the tunnel keys, which stand in the second half.
fn flip_key(bundle: &[u8]) -> Vec<u8> {
    let mut bytes = bundle.to_vec();
    let at = bytes.len() * 4 / 5;
    bytes[at] ^= 0x01;
    bytes
}

fn refusals(host: &Host, reasons: &[&str]) -> Result<u64> {
    let socket = host.socket();
    let socket = socket.to_str().context("a path is no text")?;
    let text = host.run(&["curl", "-sf", "--unix-socket", socket, "http://meshd/metrics"])?.ok()?;
    let of = |line: &str| {
        let rest = line.strip_prefix("meshd_records_refused_total{reason=\"")?;
        let (reason, count) = rest.split_once("\"} ")?;
        reasons.contains(&reason).then(|| count.parse::<u64>().ok())?
    };
    Ok(text.lines().filter_map(of).sum())
}

/// What a node believes of its peers, without what time alone changes.
fn without_counts(mut peers: Vec<serde_json::Value>) -> Vec<serde_json::Value> {
    for peer in &mut peers {
        if let Some(fields) = peer.as_object_mut() {
            fields.retain(|name, _| {
                ["name", "id", "org", "addr4", "addr6", "labels", "key_epoch"].contains(&name.as_str())
            });
        }
    }
    peers
}

fn ping_line(mesh: &Mesh<'_>, to: &str) -> Result<[String; 5]> {
    let target = mesh.member(to)?.addr4.to_string();
    Ok(["ping".into(), "-n".into(), "-i".into(), "0.05".into(), target])
}

/// Ends a ping in order and reads its summary.
fn no_loss(host: &Host, pinging: &mut Process) -> Result<()> {
    pinging.signal(Signal::SIGINT)?;
    pinging.wait(DEADLINE)?;
    let count = EchoCount::read(host)?;
    ensure!(count.lost_none(), "packets were lost: {count:?}");
    Ok(())
}

fn base64(text: &str) -> Option<Vec<u8>> {
    data_encoding::BASE64.decode(text.as_bytes()).ok()
}
