//! A key that is over is nowhere any more, and the connections go on.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_lab::memory::{Secret, secrets_in};
use mesh_lab::{Host, SeenKeys, story, wait};

use crate::file;
use crate::wanted;

/// Keys live one second.
const STORM: &str = "[keys]\nperiod_s = 1\n";
/// Rotations of both nodes together, where the few of a usual run are not enough.
const ROTATIONS: &str = "MESH_ROTATIONS";
const ROTATIONS_USUAL: usize = 24;
const DEADLINE: Duration = Duration::from_secs(60);
/// What is dropped is wiped at once; the disk has it until it is stored.
const GONE_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[test]
fn one_connection_outlives_all_keys_and_no_key_outlives_its_end() {
    story("key-retired", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mesh = lab.mesh_with("clinics", &[&a, &b], STORM)?;
        mesh.everyone_reaches_all()?;
        let b4 = mesh.member("b")?.addr4.to_string();
        let _server = b.start(&["iperf3", "--server", "--bind", &b4])?;
        wait::until(DEADLINE, "iperf3 listens", || {
            b.run(&["ss", "-lnt"]).is_ok_and(|listening| listening.stdout.contains(":5201"))
        })?;
        let client = ["iperf3", "--client", &b4, "--time", "86400", "--bitrate", "2M"];
        let mut client = a.start(&client)?;
        wait::until(DEADLINE, "the connection carries data", || {
            received(&b).is_ok_and(|bytes| bytes > 1 << 17)
        })?;
        let connection = ports(&b)?;

        let rotations = wanted(ROTATIONS, ROTATIONS_USUAL);
        let (mut seen, mut secrets) = (SeenKeys::default(), [HashSet::new(), HashSet::new()]);
        while seen.count() < rotations + 2 {
            for (host, secrets) in [&a, &b].into_iter().zip(&mut secrets) {
                seen.note(host)?;
                secrets.extend(file::secrets(host)?);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let before = received(&b)?;
        ensure!(client.ended().is_none() && ports(&b)? == connection, "the connection did not live");
        wait::until(DEADLINE, "the connection still carries data", || {
            received(&b).is_ok_and(|now| now > before)
        })?;

        for (host, seen) in [&a, &b].into_iter().zip(&secrets) {
            let pid = mesh.member(host.name())?.daemon.pid();
            // They may be over before all of the memory is read.
            let current = wait::until_some(DEADLINE, "the keys in use are found in memory", || {
                let current = file::secrets(host).ok()?;
                secrets_in(pid, &current).is_ok_and(|kept| kept.len() > 1).then_some(current)
            })?;
            let retired: HashSet<Secret> = seen.difference(&current).copied().collect();
            println!("{}: {} keys are over", host.name(), retired.len());
            ensure!(retired.len() + 3 >= rotations / 3, "too few keys of {} were seen", host.name());
            let mut left = String::new();
            let gone = wait::until(GONE_WITHIN, "all keys that are over are gone", || {
                let memory = secrets_in(pid, &retired).map_or(usize::MAX, |found| found.len());
                let disk =
                    file::secrets_below(&host.state_dir(), &retired).map_or(usize::MAX, |found| found.len());
                left = format!("{memory} in memory, {disk} on disk");
                (memory, disk) == (0, 0)
            });
            gone.with_context(|| format!("{}: {left}", host.name()))?;
        }
        Ok(())
    });
}

/// Bytes that the server's connections have received.
fn received(host: &Host) -> Result<u64> {
    let connections = host.run(&["ss", "-tniH", "sport", "=", ":5201"])?.ok()?;
    let counts = connections.split_whitespace().filter_map(|word| word.strip_prefix("bytes_received:"));
    Ok(counts.filter_map(|count| count.parse::<u64>().ok()).sum())
}

/// The ports of its clients.
fn ports(host: &Host) -> Result<HashSet<String>> {
    let connections = host.run(&["ss", "-tnH", "sport", "=", ":5201"])?.ok()?;
    Ok(connections.lines().filter_map(|line| line.split_whitespace().nth(4).map(str::to_owned)).collect())
}
