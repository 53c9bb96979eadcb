//! The page of a run.

use super::results::{Measured, Metric, OnLink, Once, Results};
use super::system::System;
use super::targets::{self, Target};

/// Longest line of a paragraph, as in the other documents.
const LINE_LEN: usize = 118;

/// Writes the whole page.
pub fn page(results: &Results) -> String {
    let machine = &results.machine;
    let mut text =
        format!("# The tunnel beside other systems\n\nWritten by `{}`; do not edit.\n", results.command);
    text.push_str(&paragraph(&format!(
        "{} UTC, {}, {} cores, Linux {}, load {:.2} before the run. Two network namespaces and a veth link for each \
         system, all on these cores, with both ends of iperf3. {} rounds of {} s flows; every round measures all \
         systems in turn. Numbers are medians over the rounds; ratios are medians of ratios within a round.",
        machine.date, machine.cpu, machine.cores, machine.kernel, machine.load, results.rounds, results.seconds,
    )));
    text.push_str("\n![One TCP stream](tunnel.svg)\n\n## Targets\n\n");
    text.push_str(&table(&target_rows(&targets::judge(results))));
    for on in &results.links {
        text.push_str(&format!("\n## {}\n\n", capital(on.link.title())));
        text.push_str(&table(&measured_rows(on)));
        text.push_str("\nHow many times as fast as each peer, one stream, there / back:\n\n");
        text.push_str(&table(&ratio_rows(on)));
        let busy = on.cores_busy_with_others.iter().copied().fold(0.0, f64::max);
        text.push_str(&format!("\nOthers kept at most {busy:.1} cores busy at the start of a round.\n"));
        text.push_str(&failures(on));
    }
    text.push_str("\n## Versions\n\n");
    text.push_str(&table(&version_rows(results)));
    text.push_str(&paragraph(
        "Tunnels have an MTU of 1420 (VXLAN 1450). nebula: AES-256-GCM, batches of 128, large socket buffers. \
         tinc: AES-256-CBC and SHA-256. openvpn: AES-256-GCM, no kernel module, large socket buffers. \
         UDP is sent as fast as iperf3 can, from and to the same cores, and what is received counts. CPU is that \
         of the whole machine. System calls are of both ends, under strace, which slows them down. Connecting \
         starts when both ends are configured, and ends with the first echo; some 5 ms of it are the start of \
         ping. Above 20 Gbit/s, and near the bare link in UDP, iperf3 itself is \
         what limits.",
    ));
    text
}

fn target_rows(targets: &[Target]) -> Vec<Vec<String>> {
    let mut rows = vec![["what", "wanted", "measured", "held"].map(str::to_owned).to_vec()];
    for target in targets {
        let held = match target.held() {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "not measured",
        };
        rows.push(vec![target.what.clone(), target.wanted(), number(target.value, 2), held.to_owned()]);
    }
    rows
}

fn measured_rows(on: &OnLink) -> Vec<Vec<String>> {
    let head = [
        "system",
        "TCP 1, Mbit/s",
        "TCP 1 back",
        "TCP 4",
        "TCP 4 back",
        "CPU s/GB",
        "UDP 64 B, kpps",
        "UDP 1400 B, Mbit/s",
        "idle p50, ms",
        "busy p99, ms",
        "busy lost, %",
        "calls/MB",
        "RSS idle, MB",
        "RSS loaded, MB",
        "connect, ms",
        "longest frame",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (system, measured) in &on.systems {
        rows.push(measured_row(*system, measured));
    }
    rows
}

fn measured_row(system: System, measured: &Measured) -> Vec<String> {
    let round = |metric, digits| number(measured.median(metric), digits);
    let once = |key: Once, digits| number(measured.once.get(&key).copied(), digits);
    vec![
        if system.is_ours() { format!("**{system}**") } else { system.to_string() },
        round(Metric::Tcp1, 0),
        round(Metric::Tcp1Back, 0),
        round(Metric::Tcp4, 0),
        round(Metric::Tcp4Back, 0),
        round(Metric::CpuPerGb, 2),
        round(Metric::Udp64Kpps, 1),
        round(Metric::Udp1400, 0),
        once(Once::IdleP50Ms, 3),
        once(Once::BusyP99Ms, 2),
        once(Once::BusyLostPercent, 1),
        once(Once::SyscallsPerMb, 0),
        once(Once::RssIdleMb, 0),
        once(Once::RssLoadedMb, 0),
        once(Once::ConnectMs, 0),
        once(Once::FrameLenMax, 0),
    ]
}

fn ratio_rows(on: &OnLink) -> Vec<Vec<String>> {
    let ours = [System::MeshdWg, System::MeshdAes];
    let mut rows = vec![vec!["peer".to_owned(), ours[0].to_string(), ours[1].to_string()]];
    for peer in on.systems.keys().filter(|system| !system.is_ours()) {
        let mut row = vec![peer.to_string()];
        for ours in ours {
            let [there, back] = [Metric::Tcp1, Metric::Tcp1Back].map(|metric| on.ratio(ours, *peer, metric));
            row.push(format!("{} / {}", number(there, 2), number(back, 2)));
        }
        rows.push(row);
    }
    rows
}

fn version_rows(results: &Results) -> Vec<Vec<String>> {
    let mut rows = vec![["system", "version"].map(str::to_owned).to_vec()];
    for (system, version) in &results.versions {
        let version = match version {
            Ok(version) => version.clone(),
            Err(reason) => format!("skipped: {}", one_line(reason)),
        };
        rows.push(vec![system.to_string(), version]);
    }
    rows
}

/// Why systems did not come up, with the ends of their logs, and which runs failed; systems without a program stand
/// among the versions.
fn failures(on: &OnLink) -> String {
    let mut text = String::new();
    for (system, measured) in &on.systems {
        if let Some(failed) = measured.failed.as_ref().filter(|failed| !failed.starts_with(super::SKIPPED)) {
            text.push_str(&format!("\n{system} is missing:\n\n```text\n{failed}\n```\n"));
        }
        for failed in &measured.failed_runs {
            text.push_str(&paragraph(&format!("A run of {system} failed: {failed}")));
        }
    }
    text
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A paragraph after an empty line, cut into lines.
fn paragraph(text: &str) -> String {
    let mut lines = String::from("\n");
    let mut len = 0;
    for word in text.split_whitespace() {
        let word_len = word.chars().count();
        if len > 0 && len + 1 + word_len > LINE_LEN {
            lines.push('\n');
            len = 0;
        } else if len > 0 {
            lines.push(' ');
            len += 1;
        }
        lines.push_str(word);
        len += word_len;
    }
    lines.push('\n');
    lines
}

/// A table with its first row as head; numbers stand right.
fn table(rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        text.push_str(&format!("| {} |\n", row.join(" | ")));
        if at == 0 {
            let rules: Vec<&str> =
                row.iter().enumerate().map(|(at, _)| if at == 0 { "---" } else { "---:" }).collect();
            text.push_str(&format!("|{}|\n", rules.join("|")));
        }
    }
    text
}
