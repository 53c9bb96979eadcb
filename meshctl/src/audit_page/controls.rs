//! Which part of an audit is evidence for which control.

use meshd_audit::Report;

use super::put as write;

/// A control, and where its evidence stands.
struct Control {
    source: &'static str,
    place: &'static str,
    evidence: &'static str,
    /// Findings that speak against it.
    codes: &'static [&'static [&'static str]],
}

/// Findings about the life of keys.
const LIFE: &[&str] = &["OVERDUE", "UNDESTROYED", "GAP", "REUSE", "UNLOGGED", "LATE-LOG"];
/// Findings about the log itself.
const LOG: &[&str] = &[
    "FORK",
    "ROOT",
    "CHECKPOINT",
    "SIGNER",
    "TILE",
    "RECORD",
    "AUTHORITY",
    "MISSING",
    "UNREADABLE",
    "CHAIN",
];
/// Findings about clocks and withdrawn rights.
const RIGHTS: &[&str] = &["CLOCK", "ORPHAN-REVOKE"];
/// Findings about other parties.
const PARTIES: &[&str] = &["UNWITNESSED", "ABSENT"];

const CONTROLS: [Control; 7] = [
    Control {
        source: "ISO/IEC 27001:2022",
        place: "A.8.24 (use of cryptography: key life cycle)",
        evidence: "table of keys; share of epochs within the cryptoperiod; <code>meshctl audit key</code>",
        codes: &[LIFE],
    },
    Control {
        source: "ISO/IEC 27001:2022",
        place: "A.5.18, A.8.15, A.8.17, A.8.22 (withdrawal of rights, logs, clocks, segregation)",
        evidence: "checkpoints and roots; finding CLOCK; findings ORPHAN-REVOKE; <code>meshctl audit as-of</code>",
        codes: &[LOG, RIGHTS],
    },
    Control {
        source: "NEN 7510:2024",
        place: "key management (A.10.1.1 and A.10.1.2 in the edition of 2017)",
        evidence: "table of keys; share of epochs within the cryptoperiod",
        codes: &[LIFE],
    },
    Control {
        source: "NEN 7512, NEN 7513",
        place: "trust between parties; logging of access",
        evidence: "organisations of the mesh and who cosigned; facts about the network only, not about access to files",
        codes: &[PARTIES],
    },
    Control {
        source: "NIST SP 800-57 Part 1 rev. 5",
        place: "5.3 (cryptoperiods)",
        evidence: "announced is pre-active, in use is active, erased is destroyed; time in use of each key",
        codes: &[LIFE],
    },
    Control {
        source: "HIPAA, 45 CFR",
        place: "164.312(b), (c), (e); 164.308(a)(3)(ii)(C); 164.316(b)(2)",
        evidence: "the log and its proofs; time of each revocation; kept for 6 years by keeping bundles",
        codes: &[LOG, RIGHTS],
    },
    Control {
        source: "PCI DSS 4.0.1",
        place: "3.7.4, 3.7.5; 4.2.1.1, 10.3.4, 10.5.1",
        evidence: "findings OVERDUE and UNDESTROYED; inventory as csv; <code>meshctl audit verify</code>; kept for 12 months by keeping bundles",
        codes: &[LIFE, LOG],
    },
];

/// Writes the mapping, and which of the findings it names there are.
pub fn put(html: &mut String, report: &Report) {
    html.push_str(
        "<section>\n<h2>Where the evidence for controls stands</h2>\n<p>This helps to find evidence. Whether a control is met \
         is for the auditor to say.</p>\n<table>\n<thead><tr><th>Source</th><th>Place</th><th>Evidence here</th>\
         <th class=\"number\">Exceptions</th></tr></thead>\n<tbody>\n",
    );
    for Control { source, place, evidence, codes } in &CONTROLS {
        let speaks = |code: &str| codes.iter().any(|codes| codes.contains(&code));
        let about = report.all_findings().filter(|(_, finding)| speaks(&finding.code)).count();
        write(
            html,
            format_args!(
                "<tr><td>{source}</td><td>{place}</td><td>{evidence}</td><td class=\"number\">{about}</td></tr>\n"
            ),
        );
    }
    html.push_str("</tbody>\n</table>\n</section>\n");
}
