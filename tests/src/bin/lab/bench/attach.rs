//! A thousand endpoints that come and go on one host: how long each takes, and what is left of them.

use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, ensure};
use mesh_lab::report::Row;
use mesh_lab::{Host, Lab, Namespace};
use serde_json::{Value, json};

/// Endpoints attached and detached.
const CYCLES: usize = 1000;
/// Callers at once; each has a namespace of its own.
const CALLERS: usize = 4;
/// Longest wait for one answer.
const DEADLINE: Duration = Duration::from_secs(60);

/// Attaches and detaches, first one by one, then by several callers at once.
pub fn measure() -> Result<Vec<Row>> {
    let lab = Lab::new("bench-attach")?;
    let [a, b] = lab.hosts(["a", "b"])?;
    let mesh = lab.mesh("study", &[&a, &b])?;
    mesh.everyone_reaches_all()?;
    let places = (0..CALLERS).map(|n| Place::new(&a, n)).collect::<Result<Vec<_>>>()?;
    // The first one prepares the host, and claims a block.
    cycle(&a, &places[0], usize::MAX)?;
    let rss_mb = || mesh.member("a")?.daemon.rss_kib().map(|kib| kib as f64 / 1024.0);
    let before = (rss_mb()?, links(&a)?);

    let alone = (0..CYCLES).map(|n| cycle(&a, &places[0], n)).collect::<Result<Vec<_>>>()?;
    let (next, host) = (AtomicUsize::new(CYCLES), &a);
    let together = thread::scope(|scope| {
        let call = |place| {
            let next = &next;
            move || -> Result<Vec<Times>> {
                let mut times = Vec::new();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= 2 * CYCLES {
                        return Ok(times);
                    }
                    times.push(cycle(host, place, n)?);
                }
            }
        };
        let callers: Vec<_> = places.iter().map(|place| scope.spawn(call(place))).collect();
        let times = callers.into_iter().map(|caller| caller.join().expect("a caller ends"));
        times.collect::<Result<Vec<_>>>().map(|times| times.concat())
    })?;

    let left = call(&a, "GET", "/v1/endpoints", &json!({}))?;
    let left = left["endpoints"].as_array().context("endpoints")?.len();
    let lost = links(&a)?.saturating_sub(before.1);
    let growth = rss_mb()? - before.0;
    let ms = |times: &[Times], of: fn(&Times) -> Duration, part: usize| -> f64 {
        let mut sorted: Vec<f64> = times.iter().map(|times| of(times).as_secs_f64() * 1e3).collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get((sorted.len() * part / 100).min(sorted.len() - 1)).copied().unwrap_or(f64::NAN)
    };
    Ok(vec![
        Row::at_most("attach, one after the other, median", ms(&alone, |one| one.attach, 50), "ms", 150.0),
        Row::at_most("attach, one after the other, p99", ms(&alone, |one| one.attach, 99), "ms", 150.0),
        Row::at_most("detach, one after the other, p99", ms(&alone, |one| one.detach, 99), "ms", 100.0),
        Row::at_most("attach, four callers at once, p99", ms(&together, |one| one.attach, 99), "ms", 150.0),
        Row::at_most("detach, four callers at once, p99", ms(&together, |one| one.detach, 99), "ms", 100.0),
        Row::at_most("endpoints left of 2,000", left as f64, "", 0.0),
        Row::at_most("links left of 2,000 endpoints", lost as f64, "", 0.0),
        Row::at_most("growth of the daemon's RSS", growth, "MB", 2.0),
    ])
}

/// A namespace that is attached again and again.
struct Place {
    path: String,
    dev: u64,
    ino: u64,
}

impl Place {
    fn new(host: &Host, n: usize) -> Result<Self> {
        let namespace = Namespace::create(&format!("{}-{n}", host.namespace().name()))?;
        let path = format!("/run/netns/{}", namespace.name());
        let file = fs::metadata(&path).with_context(|| format!("look at {path}"))?;
        Ok(Self { path, dev: file.dev(), ino: file.ino() })
    }
}

#[derive(Clone, Copy)]
struct Times {
    attach: Duration,
    detach: Duration,
}

fn cycle(host: &Host, place: &Place, n: usize) -> Result<Times> {
    let attachment = json!({
        "runtime": "meshctl", "network": "default", "container": format!("{}#{n}", place.path), "ifname": "mesh0",
    });
    let namespace = json!({ "path": place.path, "dev": place.dev, "ino": place.ino });
    let start = Instant::now();
    let request = json!({ "attachment": attachment, "namespace": namespace });
    let attached = call(host, "POST", "/v1/endpoints/attach", &request)?;
    ensure!(attached["state"] == "attached", "{attached}");
    let attach = start.elapsed();
    let start = Instant::now();
    let detached = call(host, "POST", "/v1/endpoints/detach", &json!({ "attachment": attachment }))?;
    ensure!(detached["detached"] == 1, "{detached}");
    Ok(Times { attach, detach: start.elapsed() })
}

/// One call of the control API, without a program to start.
fn call(host: &Host, method: &str, path: &str, request: &Value) -> Result<Value> {
    let mut stream = UnixStream::connect(host.socket()).context("connect to the daemon")?;
    stream.set_read_timeout(Some(DEADLINE)).context("set a deadline")?;
    let body = request.to_string();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: meshd\r\nconnection: close\r\n");
    let all = format!("{head}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(all.as_bytes()).context("ask the daemon")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read the daemon's answer")?;
    let json = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    ensure!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    serde_json::from_str(json).with_context(|| format!("read {answer}"))
}

fn links(host: &Host) -> Result<usize> {
    Ok(host.run(&["ip", "-o", "link"])?.ok()?.lines().count())
}
