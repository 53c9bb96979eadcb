//! Mistakes of other data planes that only the kernel shows, by their numbers in `docs/testing.md`.

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use meshd::dataplane::DataPlaneConfig;

use crate::paths::assert_transfer;
use crate::rig::*;

/// Flows at once, and datagrams of each on their way: together fewer than one queue of the device holds.
const FLOWS: u16 = 8;
const WINDOW: u32 = 12;

#[test]
fn mistake06_every_flow_keeps_its_order_when_several_threads_carry_flows() {
    let Some(pair) = Pair::new() else { return };
    let [a, b] =
        [0, 1].map(|side| pair.start_with(side, DataPlaneConfig { shards: Some(4), ..pair.config(side) }));
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![pair.peer(0)]);
    wait_for("the tunnel to come up", || a.peers()[0].up && b.peers()[0].up);
    std::thread::scope(|scope| {
        for flow in 0..FLOWS {
            let from = pair.inside(0, || UdpSocket::bind((addr4(0), 7000 + flow))).unwrap();
            let to = pair.inside(1, || UdpSocket::bind((addr4(1), 7000 + flow))).unwrap();
            from.connect(to.local_addr().unwrap()).unwrap();
            to.set_read_timeout(Some(PATIENCE)).unwrap();
            scope.spawn(move || {
                for round in 0..100 {
                    let numbers = round * WINDOW..(round + 1) * WINDOW;
                    // Lengths that no train has in common.
                    let datagram = |number: u32| number.to_be_bytes().repeat(1 + number as usize * 7 % 250);
                    for number in numbers.clone() {
                        assert_eq!(from.send(&datagram(number)).unwrap(), datagram(number).len());
                    }
                    let mut buffer = [0; 2048];
                    for number in numbers {
                        let len = to.recv(&mut buffer).expect("a datagram");
                        assert!(buffer[..len] == datagram(number), "flow {flow}: not number {number}");
                    }
                }
            });
        }
    });
}

#[test]
fn mistake17_a_transfer_crosses_both_devices_in_trains() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (pair.start(0), pair.start(1));
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![pair.peer(0)]);
    wait_for("the tunnel to come up", || a.peers()[0].up && b.peers()[0].up);
    let before = device_calls();
    for _ in 0..16 {
        assert_transfer(&pair, addr4(1).into());
    }
    let after = device_calls();
    // Who read most has sent the transfer, who wrote most has received it; all else is acknowledgements.
    for (kind, side) in [("meshd-tx", 0), ("meshd-rx", 1)] {
        let spent = after.iter().filter(|(thread, _)| thread.name.starts_with(kind)).map(|(thread, now)| {
            let then = before[thread][side];
            (now[side].bytes - then.bytes, now[side].calls - then.calls)
        });
        let (bytes, calls) = spent.max().expect("data threads");
        assert!(bytes > 16 << 20, "{kind}: {bytes} bytes of the transfer");
        assert!(bytes / calls > 4 * 1420, "{kind}: {bytes} bytes took {calls} calls");
    }
}

#[test]
fn mistake18_no_setting_of_the_kernel_changes_but_those_of_the_own_device() {
    let Some(pair) = Pair::new() else { return };
    // Some settings are those of all namespaces and seen in the first one only.
    let all = || (pair.inside(0, || settings("/proc/sys/net")), settings("/proc/sys/net/core"));
    let before = all();
    assert!(before.0.len() > 100 && !before.1.is_empty(), "settings are seen");
    let (a, b) = (pair.start(0), pair.start(1));
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![pair.peer(0)]);
    wait_for("the tunnel to come up", || a.peers()[0].up && b.peers()[0].up);
    let mut during = all();
    during.0.retain(|path, _| !path.iter().any(|part| part == device(0)));
    assert!(during == before, "{:#?}", changes(&before.0, &during.0));
    drop(a);
    assert!(all() == before, "{:#?}", changes(&before.0, &all().0));
}

/// Settings of the kernel; `None` for one that can't be read.
type Settings = BTreeMap<PathBuf, Option<String>>;

/// A thread of this process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Thread {
    id: String,
    name: String,
}

/// What a thread read or wrote by the calls that files and devices have.
#[derive(Debug, Clone, Copy)]
struct Spent {
    bytes: u64,
    calls: u64,
}

/// What every thread has read and written.
fn device_calls() -> BTreeMap<Thread, [Spent; 2]> {
    let threads = fs::read_dir("/proc/self/task").expect("threads").map(|entry| entry.expect("a thread"));
    let spent = threads.filter_map(|entry| {
        // A thread may have ended.
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).ok();
        let (name, io) = (read("comm")?.trim().to_owned(), read("io")?);
        let value = |key: &str| {
            let line = io.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|value| value.trim_start_matches(": ").parse().ok()).expect("a number")
        };
        let spent = [("rchar", "syscr"), ("wchar", "syscw")];
        let spent = spent.map(|(bytes, calls)| Spent { bytes: value(bytes), calls: value(calls) });
        Some((Thread { id: entry.file_name().to_string_lossy().into_owned(), name }, spent))
    });
    spent.collect()
}

/// All settings below a directory that can be changed.
fn settings(dir: &str) -> Settings {
    let (mut found, mut open) = (BTreeMap::new(), vec![PathBuf::from(dir)]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("a directory") {
            let (path, kind) =
                entry.and_then(|entry| Ok((entry.path(), entry.metadata()?))).expect("an entry");
            if kind.is_dir() {
                open.push(path);
            } else if kind.permissions().mode() & 0o200 != 0 {
                let value = fs::read_to_string(&path).ok();
                found.insert(path, value);
            }
        }
    }
    found
}

fn changes<'s>(before: &'s Settings, after: &'s Settings) -> Vec<(&'s Path, Option<&'s Option<String>>)> {
    let paths = before.keys().chain(after.keys());
    let changed = paths.filter(|path| before.get(*path) != after.get(*path));
    changed.map(|path| (path.as_path(), after.get(path))).collect()
}
