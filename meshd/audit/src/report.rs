//! What an audit says, for people and programs.

use serde::{Deserialize, Serialize};

/// What it all means; the later ones count more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// All that was signed is there and follows the rules.
    Clean,
    /// Something breaks a rule.
    Findings,
    /// Something could not be seen.
    Incomplete,
    /// Somebody changed what was signed, or signed two things that exclude each other.
    Tampering,
}

impl Verdict {
    /// Number that `meshctl audit` ends with.
    pub const fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Findings => 2,
            Self::Tampering => 3,
            Self::Incomplete => 4,
        }
    }

    /// Word in reports.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Findings => "findings",
            Self::Incomplete => "incomplete",
            Self::Tampering => "tampering",
        }
    }
}

/// An audit. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Mesh, by its id.
    pub mesh: String,
    /// Its name.
    pub mesh_name: String,
    /// Whether the id was compared with one that the auditor gave.
    pub is_compared: bool,
    /// Time of the audit.
    pub at: u64,
    /// Period in which a tunnel key is to be replaced, seconds.
    pub period_s: u64,
    /// What it all means.
    pub verdict: Verdict,
    /// Organisations of the mesh.
    pub organisations: Vec<OrgReport>,
    /// What is wrong with the chain, and logs that were not looked at.
    pub findings: Vec<FindingReport>,
    /// The logs that were looked at.
    pub logs: Vec<LogReport>,
}

/// An organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrgReport {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// A log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogReport {
    /// Organisation whose log it is.
    pub org: String,
    /// Its name.
    pub org_name: String,
    /// Leaves that were read.
    pub leaves: u64,
    /// Time of the first of them.
    pub first: Option<u64>,
    /// Time of the last of them.
    pub last: Option<u64>,
    /// Root that follows from them.
    pub root: String,
    /// Checkpoints that are believed, the largest first.
    pub checkpoints: Vec<CheckpointReport>,
    /// What is wrong, the gravest first.
    pub findings: Vec<FindingReport>,
    /// Nodes.
    pub nodes: Vec<NodeReport>,
    /// Tunnel keys.
    pub keys: Vec<KeyReport>,
}

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointReport {
    /// Leaves it covers.
    pub size: u64,
    /// Hash over them.
    pub root: String,
    /// Key id of the log's key.
    pub key: String,
    /// Who cosigned.
    pub cosigned: Vec<Cosigned>,
}

/// A cosignature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cosigned {
    /// Organisation.
    pub org: String,
    /// When.
    pub at: u64,
}

/// Something that an honest log does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingReport {
    /// Its word, the same for ever.
    pub code: String,
    /// Verdict that it alone leads to.
    pub severity: Verdict,
    /// Index of the leaf that shows it.
    pub leaf: Option<u64>,
    /// Time of that leaf, or of what it is about.
    pub time: Option<u64>,
    /// Whom it is about: a node or an organisation.
    pub subject: Option<String>,
    /// Name of that node or organisation.
    pub name: Option<String>,
    /// Epoch that it is about.
    pub epoch: Option<u32>,
    /// Sentence for people.
    pub text: String,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its id.
    pub node: String,
    /// Newest name.
    pub name: String,
    /// When its first certificate was logged.
    pub enrolled: Option<u64>,
    /// When it was revoked.
    pub revoked: Option<u64>,
    /// Its certificates.
    pub certs: Vec<CertReport>,
}

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertReport {
    /// When it was logged.
    pub logged: u64,
    /// First moment.
    pub from: u64,
    /// Last moment.
    pub until: u64,
    /// Overlay IPv4 address.
    pub addr4: String,
    /// Key id of the identity key.
    pub identity: String,
}

/// A tunnel key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyReport {
    /// Node.
    pub node: String,
    /// Its name.
    pub name: String,
    /// Number of the key.
    pub epoch: u32,
    /// The key, if a record has it.
    pub key: Option<String>,
    /// When it was announced.
    pub announced: Option<u64>,
    /// When it came into use.
    pub active_from: Option<u64>,
    /// When the next one did, or it had to go, or the node was revoked.
    pub active_to: Option<u64>,
    /// When it was erased.
    pub destroyed: Option<u64>,
    /// When it was said to be stolen.
    pub compromised: Option<u64>,
    /// Peers that confirmed it by the time it came into use.
    pub receipts: Option<u32>,
    /// Seconds in use, until the audit if it still is.
    pub used_s: Option<u64>,
    /// Codes of findings about it.
    pub exceptions: Vec<String>,
}

/// A member at some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberAt {
    /// Organisation's name.
    pub org: String,
    /// Node.
    pub node: String,
    /// Its name.
    pub name: String,
    /// Overlay IPv4 address.
    pub addr4: String,
    /// Epoch in use.
    pub epoch: Option<u32>,
    /// Key in use.
    pub key: Option<String>,
}

impl KeyReport {
    /// State at the end of the audit.
    pub fn state(&self) -> &'static str {
        match self {
            Self { compromised: Some(_), .. } => "compromised",
            Self { active_from: None, destroyed: Some(_), .. } => "not used, destroyed",
            Self { active_from: None, .. } => "announced",
            Self { destroyed: Some(_), .. } => "destroyed",
            Self { active_to: Some(_), .. } => "replaced",
            Self { .. } => "in use",
        }
    }
}

impl LogReport {
    /// Who had a certificate at a time, as this log says, and with which key.
    pub fn members_at(&self, time: u64) -> Vec<MemberAt> {
        let is_member = |node: &&NodeReport| node.revoked.is_none_or(|revoked| time < revoked);
        let mut members = Vec::new();
        for node in self.nodes.iter().filter(is_member) {
            let newest = node.certs.iter().rev().find(|cert| cert.logged <= time);
            let Some(cert) = newest.filter(|cert| time <= cert.until) else { continue };
            let in_use = |key: &&KeyReport| {
                key.node == node.node
                    && key.active_from.is_some_and(|from| from <= time)
                    && key.active_to.is_none_or(|to| time < to)
            };
            let key = self.keys.iter().rev().find(in_use);
            members.push(MemberAt {
                org: self.org_name.clone(),
                node: node.node.clone(),
                name: node.name.clone(),
                addr4: cert.addr4.clone(),
                epoch: key.map(|key| key.epoch),
                key: key.and_then(|key| key.key.clone()),
            });
        }
        members
    }
}

impl Report {
    /// All findings, those of the chain first.
    pub fn all_findings(&self) -> impl Iterator<Item = (Option<&LogReport>, &FindingReport)> {
        let chain = self.findings.iter().map(|finding| (None, finding));
        let logs = self.logs.iter();
        chain.chain(logs.flat_map(|log| log.findings.iter().map(move |finding| (Some(log), finding))))
    }
}
