//! An audit as one page for people: no script, nothing from elsewhere, made to be printed.

mod controls;
mod timeline;

use std::fmt::Write;

use meshd_audit::{FindingReport, KeyReport, LogReport, Report, Verdict};

use crate::time;

const STYLE: &str = include_str!("audit_page/style.css");

/// The page.
pub fn page(report: &Report) -> String {
    let mut html = String::new();
    let title = format!("Audit of tunnel keys: {}", text(&report.mesh_name));
    put(
        &mut html,
        format_args!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header>\n<h1>Audit of tunnel keys</h1>\n<p>Mesh <strong>{}</strong> · {} · made by meshctl {}</p>\n</header>\n",
            text(&report.mesh_name),
            time::utc(report.at),
            env!("CARGO_PKG_VERSION"),
        ),
    );
    verdict(&mut html, report);
    exceptions(&mut html, report);
    scope(&mut html, report);
    for log in &report.logs {
        log_part(&mut html, report, log);
    }
    controls::put(&mut html, report);
    again(&mut html, report);
    html.push_str("</body>\n</html>\n");
    html
}

fn verdict(html: &mut String, report: &Report) {
    let (word, means) = match report.verdict {
        Verdict::Clean => {
            ("Clean", "All that was signed is there, unchanged, and follows the rules of key rotation.")
        }
        Verdict::Findings => (
            "Findings",
            "All that was signed is there and unchanged. The exceptions below break rules of key rotation.",
        ),
        Verdict::Incomplete => (
            "Incomplete",
            "Something that was signed could not be seen. What is said below holds for the rest only.",
        ),
        Verdict::Tampering => (
            "Evidence of tampering",
            "Something is not what was signed. Nothing below may be relied upon before the exceptions are explained.",
        ),
    };
    put(
        html,
        format_args!(
            "<div class=\"verdict {}\"><strong>{word}</strong>{means}</div>\n",
            report.verdict.word()
        ),
    );
    let keys = || report.logs.iter().flat_map(|log| &log.keys);
    let used = keys().filter(|key| key.active_from.is_some()).count();
    let within = keys().filter(|key| key.active_from.is_some() && !has(key, "OVERDUE")).count();
    let erased = keys().filter(|key| key.destroyed.is_some()).count();
    let count = |severity| report.all_findings().filter(|(_, finding)| finding.severity == severity).count();
    let facts = [
        (within_share(within, used), "epochs within the cryptoperiod"),
        (format!("{within} of {used}"), "epochs that were used"),
        (erased.to_string(), "keys erased, as their nodes say"),
        (count(Verdict::Tampering).to_string(), "signs of tampering"),
        (count(Verdict::Incomplete).to_string(), "things not seen"),
        (count(Verdict::Findings).to_string(), "rules broken"),
    ];
    html.push_str("<ul class=\"tiles\">\n");
    for (number, what) in facts {
        put(html, format_args!("<li><b>{number}</b><span>{what}</span></li>\n"));
    }
    html.push_str("</ul>\n");
}

/// Tenths of a percent, never rounded up to all.
fn within_share(within: usize, all: usize) -> String {
    match (within * 1000).checked_div(all) {
        Some(permille) => format!("{}.{} %", permille / 10, permille % 10),
        None => "-".to_owned(),
    }
}

fn exceptions(html: &mut String, report: &Report) {
    html.push_str("<section>\n<h2>Exceptions</h2>\n");
    let all: Vec<(Option<&LogReport>, &FindingReport)> = report.all_findings().collect();
    if all.is_empty() {
        html.push_str("<p class=\"none\">None.</p>\n</section>\n");
        return;
    }
    html.push_str(
        "<table>\n<thead><tr><th>Finding</th><th>Means</th><th>Log</th><th class=\"number\">Leaf</th><th>Time</th>\
         <th>About</th><th class=\"number\">Epoch</th><th>What</th></tr></thead>\n<tbody>\n",
    );
    for (log, finding) in all {
        let means = match finding.severity {
            Verdict::Clean => "notice",
            Verdict::Findings => "rule broken",
            Verdict::Incomplete => "not seen",
            Verdict::Tampering => "tampering",
        };
        put(
            html,
            format_args!(
                "<tr class=\"{}\"><td class=\"code\">{}</td><td>{means}</td><td>{}</td><td class=\"number\">{}</td><td>{}</td>\
             <td>{}</td><td class=\"number\">{}</td><td>{}</td></tr>\n",
                finding.severity.word(),
                text(&finding.code),
                text(log.map_or("", |log| &log.org_name)),
                finding.leaf.map_or_else(String::new, |leaf| leaf.to_string()),
                at(finding.time),
                text(finding.name.as_ref().or(finding.subject.as_ref()).map_or("", String::as_str)),
                finding.epoch.map_or_else(String::new, |epoch| epoch.to_string()),
                text(&finding.text),
            ),
        );
    }
    html.push_str("</tbody>\n</table>\n</section>\n");
}

fn scope(html: &mut String, report: &Report) {
    let names: Vec<String> = report.logs.iter().map(|log| text(&log.org_name)).collect();
    let first = report.logs.iter().filter_map(|log| log.first).min();
    let last = report.logs.iter().filter_map(|log| log.last).max();
    let compared = if report.is_compared {
        "compared with the id that the auditor gave"
    } else {
        "not compared with an id that the auditor knows"
    };
    let facts = [
        ("Mesh", text(&report.mesh_name)),
        ("Mesh id", format!("<code>{}</code><br>{compared}", text(&report.mesh))),
        (
            "Logs looked at",
            format!(
                "{} of {} organisations: {}",
                report.logs.len(),
                report.organisations.len(),
                names.join(", ")
            ),
        ),
        ("First and last entry", format!("{} to {}", at(first), at(last))),
        ("Time of the audit", time::utc(report.at)),
        (
            "Cryptoperiod",
            format!("{}; overdue after {}", time::span(report.period_s), time::span(allowed(report))),
        ),
    ];
    html.push_str("<section>\n<h2>Scope</h2>\n<dl>\n");
    for (name, value) in facts {
        put(html, format_args!("<dt>{name}</dt><dd>{value}</dd>\n"));
    }
    html.push_str("</dl>\n</section>\n");
}

fn log_part(html: &mut String, report: &Report, log: &LogReport) {
    put(
        html,
        format_args!(
            "<section>\n<h2>Log of {}</h2>\n<p>{} leaves. Root that follows from them: <code>{}</code></p>\n",
            text(&log.org_name),
            log.leaves,
            text(&log.root),
        ),
    );
    checkpoints(html, report, log);
    html.push_str("<h3>Timeline of epochs</h3>\n");
    timeline::put(html, report, log);
    html.push_str(
        "<h3>Keys</h3>\n<table>\n<thead><tr><th>Node</th><th class=\"number\">Epoch</th><th>State</th><th>Announced</th>\
         <th>In use from</th><th>To</th><th>In use for</th><th class=\"number\">Of the period</th><th>Erased</th>\
         <th class=\"number\">Receipts</th><th>Exceptions</th></tr></thead>\n<tbody>\n",
    );
    for key in &log.keys {
        put(
            html,
            format_args!(
                "<tr{}><td>{}</td><td class=\"number\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td class=\"number\">{}</td><td>{}</td><td class=\"number\">{}</td><td class=\"code\">{}</td></tr>\n",
                if key.exceptions.is_empty() { "" } else { " class=\"exception\"" },
                text(if key.name.is_empty() { &key.node } else { &key.name }),
                key.epoch,
                key.state(),
                at(key.announced),
                at(key.active_from),
                at(key.active_to),
                key.used_s.map_or_else(String::new, time::span),
                key.used_s
                    .and_then(|used| (used * 100).checked_div(report.period_s))
                    .map_or_else(String::new, |share| format!("{share} %")),
                at(key.destroyed),
                key.receipts.map_or_else(String::new, |count| count.to_string()),
                text(&key.exceptions.join(" ")),
            ),
        );
    }
    html.push_str("</tbody>\n</table>\n</section>\n");
}

/// The newest ones: each covers all before it.
fn checkpoints(html: &mut String, report: &Report, log: &LogReport) {
    const SHOWN: usize = 3;
    html.push_str(
        "<table>\n<thead><tr><th class=\"number\">Signed leaves</th><th>Root</th><th>Key of the log</th><th>Cosigned by</th>\
         </tr></thead>\n<tbody>\n",
    );
    for checkpoint in log.checkpoints.iter().take(SHOWN) {
        let cosigned: Vec<String> = checkpoint
            .cosigned
            .iter()
            .map(|one| {
                let known = report.organisations.iter().find(|org| org.id == one.org);
                format!("{}, {}", text(known.map_or(&one.org, |org| &org.name)), time::utc(one.at))
            })
            .collect();
        put(
            html,
            format_args!(
                "<tr><td class=\"number\">{}</td><td><code>{}</code></td><td><code>{}</code></td><td>{}</td></tr>\n",
                checkpoint.size,
                text(&checkpoint.root),
                text(&checkpoint.key),
                if cosigned.is_empty() { "nobody".to_owned() } else { cosigned.join("<br>") },
            ),
        );
    }
    html.push_str("</tbody>\n</table>\n");
    if let Some(more) = log.checkpoints.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        put(html, format_args!("<p>{more} older checkpoints were verified as well.</p>\n"));
    }
}

fn again(html: &mut String, report: &Report) {
    put(
        html,
        format_args!(
            "<section>\n<h2>Verify it yourself</h2>\n<p>This page proves nothing. The bundle does, with the mesh id that you \
         know by another way than the bundle came:</p>\n<pre>meshctl audit verify-bundle FILE --mesh {}</pre>\n</section>\n\
         <footer><p>What this audit does not show: whether a node was online, what was used before it was logged, and what \
         was said inside of connections. It speaks of networks and keys, not of patients or files. That a key was erased is \
         the signed word of its node.</p></footer>\n",
            text(&report.mesh)
        ),
    );
}

/// How long an epoch may last.
fn allowed(report: &Report) -> u64 {
    report.period_s.saturating_add(report.period_s / 10).saturating_add(600)
}

fn has(key: &KeyReport, code: &str) -> bool {
    key.exceptions.iter().any(|one| one == code)
}

fn at(time: Option<u64>) -> String {
    time.map_or_else(String::new, |time| time::utc(time).trim_end_matches(" UTC").to_owned())
}

fn put(html: &mut String, part: std::fmt::Arguments<'_>) {
    // Writing into memory can't fail.
    let _ = html.write_fmt(part);
}

/// Text that is no markup, and has no control characters.
fn text(raw: &str) -> String {
    let mut safe = String::with_capacity(raw.len());
    for one in raw.chars() {
        match one {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            one if one.is_control() => safe.push('?'),
            one => safe.push(one),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use meshd_audit::OrgReport;

    use super::*;

    #[test]
    fn names_are_no_markup() {
        let evil = "<script>alert('1')</script>\u{1b}\"&";
        let finding = FindingReport {
            code: "CHECKPOINT".into(),
            severity: Verdict::Tampering,
            leaf: None,
            time: Some(1),
            subject: None,
            name: Some(evil.into()),
            epoch: None,
            text: evil.into(),
        };
        let log = LogReport {
            org: evil.into(),
            org_name: evil.into(),
            leaves: 0,
            first: None,
            last: None,
            root: evil.into(),
            checkpoints: vec![],
            findings: vec![finding.clone()],
            nodes: vec![],
            keys: vec![KeyReport {
                node: evil.into(),
                name: evil.into(),
                epoch: 1,
                key: None,
                announced: None,
                active_from: Some(5),
                active_to: None,
                destroyed: None,
                compromised: None,
                receipts: None,
                used_s: Some(5),
                exceptions: vec![evil.into()],
            }],
        };
        let report = Report {
            mesh: evil.into(),
            mesh_name: evil.into(),
            is_compared: false,
            at: 10,
            period_s: 0,
            verdict: Verdict::Tampering,
            organisations: vec![OrgReport { id: evil.into(), name: evil.into() }],
            findings: vec![finding],
            logs: vec![log],
        };
        let html = page(&report);
        assert!(!html.contains("<script") && !html.contains("alert('1')") && !html.contains('\u{1b}'));
        assert!(html.contains("&lt;script&gt;"));
        for outside in ["http://", "https://", "src=", "url(", "@import"] {
            assert!(!html.contains(outside), "{outside}");
        }
    }

    #[test]
    fn a_share_is_never_rounded_up() {
        assert_eq!(within_share(1999, 2000), "99.9 %");
        assert_eq!(within_share(3, 3), "100.0 %");
        assert_eq!(within_share(0, 0), "-");
    }
}
