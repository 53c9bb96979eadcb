//! A thousand endpoints that come and go on one host: how long each takes, and what is left of them.

use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, ensure};
use mesh_lab::report::Row;
use mesh_lab::{Host, Lab, Namespace};
use serde_json::{Value, json};

/// Cycles before anything is measured: the daemon remembers up to 1,024 withdrawals, and what it remembers is no leak.
const WARM_UP: usize = 1100;
/// Cycles of one caller alone.
const ALONE: usize = 100;
/// Cycles of all callers together.
const TOGETHER: usize = 1000;
/// Callers at once, as many as the daemon serves side by side; each has a namespace of its own.
const CALLERS: usize = 16;
/// What the daemon says when it finds a claim whose endpoint is gone.
const LOST_CLAIM: &str = "that is not known any more";

/// Attaches and detaches, first one by one, then by several callers at once.
pub fn measure() -> Result<Vec<Row>> {
    let lab = Lab::new("bench-attach")?;
    let [a, b] = lab.hosts(["a", "b"])?;
    let mesh = lab.mesh("study", &[&a, &b])?;
    mesh.everyone_reaches_all()?;
    let places = (0..CALLERS).map(|n| Place::new(&b, n)).collect::<Result<Vec<_>>>()?;
    let daemon = &mesh.member("b")?.daemon;
    let rss_mb = || daemon.rss_kib().map(|kib| kib as f64 / 1024.0);

    cycles(&b, &places, 0..WARM_UP)?;
    let (before, rss_before) = (Traces::of(&b)?, rss_mb()?);
    let alone = cycles(&b, &places[..1], WARM_UP..WARM_UP + ALONE)?;
    let start = Instant::now();
    let together = cycles(&b, &places, WARM_UP + ALONE..WARM_UP + ALONE + TOGETHER)?;
    let rate = TOGETHER as f64 / start.elapsed().as_secs_f64();
    let growth = rss_mb()? - rss_before;
    let after = Traces::of(&b)?;

    let left = b.call("GET", "/v1/endpoints", &json!({}))?;
    let left = left["endpoints"].as_array().context("endpoints")?.len();
    let names = names_found(&b, &places[0], WARM_UP + ALONE..WARM_UP + ALONE + TOGETHER)?;
    let lost_claims = daemon.log().matches(LOST_CLAIM).count();
    let more = |of: fn(&Traces) -> usize| of(&after).saturating_sub(of(&before)) as f64;
    Ok(vec![
        Row::at_most("attach, one caller, median", part(&alone, |one| one.attach, 50), "ms", 150.0),
        Row::at_most("attach, one caller, p99", part(&alone, |one| one.attach, 99), "ms", 150.0),
        Row::at_most("detach, one caller, p99", part(&alone, |one| one.detach, 99), "ms", 100.0),
        Row::at_most("attach, 16 callers, median", part(&together, |one| one.attach, 50), "ms", 150.0),
        Row::at_most("attach, 16 callers, p99", part(&together, |one| one.attach, 99), "ms", 150.0),
        Row::at_most("detach, 16 callers, median", part(&together, |one| one.detach, 50), "ms", 100.0),
        Row::at_most("detach, 16 callers, p99", part(&together, |one| one.detach, 99), "ms", 100.0),
        Row::at_least("endpoints that came and went", rate, "/s", 20.0),
        Row::at_most("endpoints left of 2,200", left as f64, "", 0.0),
        Row::at_most("links left", more(|traces| traces.links), "", 0.0),
        Row::at_most("routes left", more(|traces| traces.routes), "", 0.0),
        Row::at_most("lines left in the packet filter", more(|traces| traces.filter), "", 0.0),
        Row::at_most("names left", names as f64, "", 0.0),
        Row::at_most("claims left", lost_claims as f64, "", 0.0),
        // Each endpoint takes some 300; blocks of addresses that are claimed meanwhile take a few.
        Row::at_most("growth of the state file", more(|traces| traces.stored), "bytes", 290.0),
        Row::at_most("growth of the daemon's RSS", growth, "MB", 2.0),
    ])
}

/// What endpoints leave on a host.
struct Traces {
    links: usize,
    routes: usize,
    filter: usize,
    stored: usize,
}

impl Traces {
    fn of(host: &Host) -> Result<Self> {
        // What the daemon writes late, it has written by then.
        thread::sleep(Duration::from_secs(3));
        let lines = |line: &[&str]| -> Result<usize> { Ok(host.run(line)?.ok()?.lines().count()) };
        let routes = |family| lines(&["ip", family, "-o", "route", "show", "table", "all"]);
        Ok(Self {
            links: lines(&["ip", "-o", "link"])?,
            routes: routes("-4")? + routes("-6")?,
            filter: lines(&["nft", "list", "table", "inet", "meshd"])?,
            stored: fs::metadata(host.state_dir().join("endpoints.a")).context("the state file")?.len()
                as usize,
        })
    }
}

/// Cycles of several callers at once.
fn cycles(host: &Host, places: &[Place], numbers: std::ops::Range<usize>) -> Result<Vec<Times>> {
    let next = AtomicUsize::new(numbers.start);
    thread::scope(|scope| {
        let call = |place| {
            let (next, end) = (&next, numbers.end);
            move || -> Result<Vec<Times>> {
                let mut times = Vec::new();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= end {
                        return Ok(times);
                    }
                    times.push(cycle(host, place, n)?);
                }
            }
        };
        let callers: Vec<_> = places.iter().map(|place| scope.spawn(call(place))).collect();
        let times = callers.into_iter().map(|caller| caller.join().expect("a caller ends"));
        times.collect::<Result<Vec<_>>>().map(|times| times.concat())
    })
}

/// The value below which so many of a hundred lie, in milliseconds.
fn part(times: &[Times], of: fn(&Times) -> Duration, percent: usize) -> f64 {
    let mut sorted: Vec<f64> = times.iter().map(|times| of(times).as_secs_f64() * 1e3).collect();
    sorted.sort_by(f64::total_cmp);
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

/// How many of the names of endpoints that are gone are still answered; one that is there is.
fn names_found(host: &Host, place: &Place, gone: std::ops::Range<usize>) -> Result<usize> {
    let status = host.call("GET", "/v1/status", &json!({}))?;
    let server = format!("@{}", status["node"]["addr4"].as_str().context("addr4")?);
    let own = status["node"]["dns_name"].as_str().context("the node has a name")?;
    let (_, domain) = own.split_once('.').context("its name has a domain")?;
    let asked = |numbers: std::ops::Range<usize>| -> Result<usize> {
        let mut line = vec!["dig".to_owned(), "+noall".to_owned(), "+answer".to_owned(), server.clone()];
        line.extend(numbers.map(|n| format!("{}.{domain}", name(n))));
        Ok(host.run(&line)?.ok()?.lines().filter(|line| !line.is_empty()).count())
    };
    attach(host, place, gone.end)?;
    let there = asked(gone.end..gone.end + 1)?;
    detach(host, place, gone.end)?;
    ensure!(there == 1, "the name of an endpoint is not answered");
    asked(gone)
}

fn name(n: usize) -> String {
    format!("e{n}")
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

    fn attachment(&self, n: usize) -> Value {
        let container = format!("{}#{n}", self.path);
        json!({ "runtime": "meshctl", "network": "default", "container": container, "ifname": "mesh0" })
    }
}

#[derive(Clone, Copy)]
struct Times {
    attach: Duration,
    detach: Duration,
}

fn cycle(host: &Host, place: &Place, n: usize) -> Result<Times> {
    let start = Instant::now();
    attach(host, place, n)?;
    let attach = start.elapsed();
    let start = Instant::now();
    detach(host, place, n)?;
    Ok(Times { attach, detach: start.elapsed() })
}

fn attach(host: &Host, place: &Place, n: usize) -> Result<()> {
    let namespace = json!({ "path": place.path, "dev": place.dev, "ino": place.ino });
    let request = json!({ "attachment": place.attachment(n), "namespace": namespace, "name": name(n) });
    let attached = host.call("POST", "/v1/endpoints/attach", &request)?;
    ensure!(attached["state"] == "attached", "{attached}");
    Ok(())
}

fn detach(host: &Host, place: &Place, n: usize) -> Result<()> {
    let request = json!({ "attachment": place.attachment(n) });
    let detached = host.call("POST", "/v1/endpoints/detach", &request)?;
    ensure!(detached["detached"] == 1, "{detached}");
    Ok(())
}
