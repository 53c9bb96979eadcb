//! Findings in words.

use meshd_trust::log::{Finding, Severity};
use meshd_wire::{OrgId, Subject, Timestamp};

use crate::chain::Chain;
use crate::report::{FindingReport, Verdict};
use crate::table::Table;

/// What a finding is about.
struct About {
    leaf: Option<u64>,
    time: Option<Timestamp>,
    subject: Option<Subject>,
    org: Option<OrgId>,
    epoch: Option<u32>,
    text: String,
}

/// Tells a finding, with the names of nodes and organisations.
pub(crate) fn tell(finding: &Finding, chain: &Chain, table: &Table) -> FindingReport {
    let About { leaf, time, subject, org, epoch, text } = about(finding);
    let of_node = subject.as_ref().and_then(|subject| table.name(subject));
    let of_org = org.map(|org| chain.org_name(&org).to_owned()).filter(|name| !name.is_empty());
    FindingReport {
        code: finding.code().to_owned(),
        severity: verdict_of(finding.severity()),
        leaf,
        time: time.map(|time| time.0),
        subject: subject.map(|subject| subject.to_string()).or(org.map(|org| org.to_string())),
        name: of_node.or(of_org),
        epoch,
        text,
    }
}

/// Node and epoch that a finding is about.
pub(crate) fn key_of(finding: &Finding) -> Option<(Subject, u32)> {
    let About { subject, epoch, .. } = about(finding);
    subject.zip(epoch)
}

/// What a finding alone leads to.
pub(crate) fn verdict_of(severity: Severity) -> Verdict {
    match severity {
        Severity::Notice => Verdict::Clean,
        Severity::Rule => Verdict::Findings,
        Severity::Incomplete => Verdict::Incomplete,
        Severity::Tampering => Verdict::Tampering,
    }
}

fn nothing(text: String) -> About {
    About { leaf: None, time: None, subject: None, org: None, epoch: None, text }
}

fn at_leaf(index: u64, text: String) -> About {
    About { leaf: Some(index), ..nothing(text) }
}

fn of_key(node: Subject, epoch: u32, time: Timestamp, text: String) -> About {
    About { subject: Some(node), epoch: Some(epoch), time: Some(time), ..nothing(text) }
}

fn there(is_there: bool, thing: String) -> String {
    if is_there { format!("{thing} is not what the log says") } else { format!("{thing} is not there") }
}

fn about(finding: &Finding) -> About {
    match finding {
        Finding::Fork { one, other } => nothing(format!(
            "the log signed two trees of {} leaves: {} and {}",
            one.size, one.root, other.root
        )),
        Finding::Root { signed, found } => nothing(format!(
            "the log signed {} leaves as {}, but these leaves give {}",
            signed.size, signed.root, found.root
        )),
        Finding::Chain { index, expected } => at_leaf(
            *index,
            match expected {
                Some(expected) => {
                    format!("it should name leaf {expected} as the one before about the same subject")
                }
                None => "it names a leaf before it about the same subject, and there is none".to_owned(),
            },
        ),
        Finding::Missing { signed, found } => {
            nothing(format!("{signed} leaves were signed, {found} of them could be read"))
        }
        Finding::Unreadable { index } => {
            at_leaf(*index, "a leaf of another organisation or of a newer release, or none at all".to_owned())
        }
        Finding::Checkpoint { path, is_there: true } => {
            nothing(format!("{path} is no checkpoint that the log has signed"))
        }
        Finding::Checkpoint { path, is_there } => nothing(there(*is_there, path.clone())),
        Finding::Signer { path, name } => {
            nothing(format!("{path} has a signature by a key that nobody vouches for, in the name of {name}"))
        }
        Finding::Tile { path, is_there } => nothing(there(*is_there, path.clone())),
        Finding::Record { index, fault } => at_leaf(*index, format!("the record beside it: {fault}")),
        Finding::Authority { what, is_there: true } => nothing(what.clone()),
        Finding::Authority { what, is_there: false } => nothing(format!("{what}: something is missing")),
        Finding::Absent { org } => {
            About { org: Some(*org), ..nothing("the log of this organisation is not there".to_owned()) }
        }
        Finding::Gap { node, first, last } => About {
            subject: Some(*node),
            epoch: Some(*first),
            ..nothing(format!("epochs {first} to {last} were never named"))
        },
        Finding::Reuse { .. }
        | Finding::Unlogged { .. }
        | Finding::LateLog { .. }
        | Finding::Dormant { .. }
        | Finding::Overdue { .. }
        | Finding::Undestroyed { .. }
        | Finding::OrphanRevoke { .. } => about_key(finding),
        Finding::Clock { index, time, witnessed } => About {
            time: Some(*time),
            ..at_leaf(
                *index,
                format!(
                    "its time and the first cosignature are {} s apart",
                    time.since(*witnessed).max(witnessed.since(*time))
                ),
            )
        },
        Finding::Unwitnessed { org, size, since } => About {
            org: Some(*org),
            time: Some(*since),
            ..nothing(format!("no cosignature within 600 s on the checkpoint of {size} leaves"))
        },
    }
}

/// What the rules of keys are about.
fn about_key(finding: &Finding) -> About {
    match finding {
        Finding::Reuse { index, key, before, again } => {
            let what = match key {
                Some(key) => format!("the key {} was seen before", key.short()),
                None => "an epoch that was over came back".to_owned(),
            };
            let text = format!("{what}: epoch {} of {}", before.1, before.0.short());
            About { leaf: Some(*index), subject: Some(again.0), epoch: Some(again.1), ..nothing(text) }
        }
        Finding::Unlogged { index, node, epoch, announced, used: _ } => About {
            leaf: Some(*index),
            subject: Some(*node),
            epoch: Some(*epoch),
            ..nothing(match announced {
                Some(_) => "another key than the one that was announced for this epoch".to_owned(),
                None => "the epoch came into use and had not been announced".to_owned(),
            })
        },
        Finding::LateLog { index, node, epoch, since, announced } => About {
            leaf: Some(*index),
            ..of_key(
                *node,
                *epoch,
                *since,
                format!("in use {} s before it was announced", announced.since(*since)),
            )
        },
        Finding::Dormant { node, epoch, since, certified } => of_key(
            *node,
            *epoch,
            *since,
            format!(
                "beyond its period while the node was no member: its certificate ended {} s after",
                certified.since(*since)
            ),
        ),
        Finding::Overdue { node, epoch, since, until } => {
            of_key(*node, *epoch, *since, format!("in use for {} s", until.since(*since)))
        }
        Finding::Undestroyed { node, epoch, since, destroyed } => of_key(
            *node,
            *epoch,
            *since,
            match destroyed {
                Some(at) => format!("erased {} s after it was replaced", at.since(*since)),
                None => "replaced, and not erased within 3600 s".to_owned(),
            },
        ),
        Finding::OrphanRevoke { subject, revoked, index } => About {
            subject: Some(*subject),
            ..at_leaf(*index, format!("the subject was revoked by leaf {revoked}"))
        },
        Finding::Fork { .. }
        | Finding::Root { .. }
        | Finding::Chain { .. }
        | Finding::Missing { .. }
        | Finding::Unreadable { .. }
        | Finding::Checkpoint { .. }
        | Finding::Signer { .. }
        | Finding::Tile { .. }
        | Finding::Record { .. }
        | Finding::Authority { .. }
        | Finding::Absent { .. }
        | Finding::Gap { .. }
        | Finding::Clock { .. }
        | Finding::Unwitnessed { .. } => unreachable!("not about a key"),
    }
}
