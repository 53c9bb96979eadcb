//! What roots do offline: found organisations and meshes, and let stewards act.

use std::net::IpAddr;

use meshd_wire::limits::NAME_BYTES_MAX;
use meshd_wire::record::{
    AgreementBody, Member, MeshGenesis, OrgRoot, Prefix, Roles, StewardDelegation, VERSION,
};
use meshd_wire::{DecodeError, Envelope, MeshId, OrgId, PublicKey, Record, RecordId, Timestamp};

use crate::key::{SigningKey, is_signing_key, sign};

/// Life of a root: two years.
pub const ROOT_LIFE_S: u64 = 730 * DAY_S;
/// Life of a steward's delegation.
pub const DELEGATION_LIFE_S: u64 = 90 * DAY_S;
/// Life of the agreement that a mesh is born with.
pub const AGREEMENT_LIFE_S: u64 = 10 * 365 * DAY_S;
/// Age of an OrgState at which nodes raise an alarm, unless the founders choose another.
pub const FRESHNESS_SOFT_S: u32 = 900;
/// Age of an OrgState at which nodes cut its organisation, unless the founders choose another.
pub const FRESHNESS_HARD_S: u32 = 86_400;
/// Age at which tunnel keys expire, unless the founders choose another.
pub const KEY_AGE_MAX_S: u32 = 172_800;
/// Longest grace for running flows, unless the founders choose another.
pub const GRACE_MAX_S: u32 = 3600;
/// Keys of one root, as many as may sign beside an older version's keys.
pub const ROOT_KEYS_MAX: usize = 32;
/// Founders of one mesh: each of them signs the genesis.
pub const FOUNDERS_MAX: usize = 64;
/// Lengths of an organisation's prefix: private space has nothing larger than a /8, and less than a
/// /30 holds no two nodes.
pub const PREFIX4_LEN: std::ops::RangeInclusive<u8> = 8..=30;

const DAY_S: u64 = 86_400;
/// Roots and geneses precede every mesh, so their signatures name none.
const NO_MESH: MeshId = MeshId([0; 32]);

/// Why a root, genesis or delegation can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoundingError {
    /// A name of a mesh or organisation that breaks the rule.
    #[error("the name {0:?} is not 1 to 63 characters of a-z, 0-9 and hyphen")]
    Name(String),
    /// No keys, too many, or one of them twice.
    #[error("a root needs 1 to {ROOT_KEYS_MAX} different keys")]
    RootKeys,
    /// Nothing can follow the last version.
    #[error("this root is the last one")]
    RootVersion,
    /// More signatures wanted than there are keys, or none.
    #[error("threshold {threshold} does not fit {keys} keys")]
    Threshold {
        /// The threshold given.
        threshold: u8,
        /// Keys given.
        keys: usize,
    },
    /// No founders, or too many.
    #[error("a mesh needs 1 to {FOUNDERS_MAX} founders")]
    Founders,
    /// One organisation twice.
    #[error("organisation {} is named twice", .0.short())]
    FounderTwice(OrgId),
    /// A prefix that can't be an organisation's.
    #[error("the prefix of organisation {} is not IPv4 of /8 to /30 with host bits zero", .0.short())]
    Prefix(OrgId),
    /// Addresses of two organisations overlap.
    #[error("the prefixes of organisations {} and {} overlap", .0.short(), .1.short())]
    Overlap(OrgId, OrgId),
    /// Two organisations have the same IPv6 subnet.
    #[error("organisations {} and {} have the same IPv6 subnet", .0.short(), .1.short())]
    Subnet6(OrgId, OrgId),
    /// Members of a draft are not sorted.
    #[error("the members are not sorted by organisation")]
    Unsorted,
    /// A draft that is not the first version of agreement 0.
    #[error("it is not the first version of agreement 0")]
    NotFirst,
    /// Limits that contradict each other.
    #[error("its limits contradict each other")]
    Limits,
    /// A key that is no usable Ed25519 key, or one key for two purposes.
    #[error("a steward needs four different signing keys")]
    StewardKeys,
    /// Bytes that are no genesis.
    #[error("it is not a genesis")]
    NotGenesis(#[source] DecodeError),
}

/// Makes the first root of an organisation, signed by all of its keys.
pub fn org_root(
    name: &str,
    keys: &[&SigningKey],
    threshold: u8,
    now: Timestamp,
) -> Result<(OrgId, Envelope), FoundingError> {
    check_name(name)?;
    let root = root(name, keys, threshold, now)?;
    Ok((OrgId(record_id(&root, &NO_MESH).0), sign(&root, &NO_MESH, keys)))
}

/// Makes the root that follows another, signed by all of its keys and by those of the one before that are given: as many
/// as its threshold.
pub fn next_root(
    before: &OrgRoot,
    old: &[&SigningKey],
    keys: &[&SigningKey],
    threshold: u8,
    now: Timestamp,
) -> Result<Envelope, FoundingError> {
    let root = OrgRoot {
        root_version: before.root_version.checked_add(1).ok_or(FoundingError::RootVersion)?,
        prev: Some(record_id(before, &NO_MESH)),
        ..root(&before.name, keys, threshold, now)?
    };
    let mut signers: Vec<&SigningKey> = old.iter().chain(keys).copied().collect();
    // One that stays signs once.
    signers.sort_by_key(|key| key.public());
    signers.dedup_by_key(|key| key.public());
    Ok(sign(&root, &NO_MESH, &signers))
}

fn root(name: &str, keys: &[&SigningKey], threshold: u8, now: Timestamp) -> Result<OrgRoot, FoundingError> {
    let mut public: Vec<PublicKey> = keys.iter().map(|key| key.public()).collect();
    public.sort();
    if public.is_empty() || public.len() > ROOT_KEYS_MAX || !public.is_sorted_by(|a, b| a < b) {
        return Err(FoundingError::RootKeys);
    }
    if threshold == 0 || usize::from(threshold) > public.len() {
        return Err(FoundingError::Threshold { threshold, keys: public.len() });
    }
    Ok(OrgRoot {
        version: VERSION,
        root_version: 1,
        name: name.to_owned(),
        keys: public,
        threshold,
        not_after: now.plus(ROOT_LIFE_S),
        prev: None,
    })
}

/// One organisation that founds a mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Founder {
    /// The organisation.
    pub org: OrgId,
    /// Its IPv4 overlay prefix.
    pub prefix4: Prefix,
    /// Number of its /64 below the mesh's /48.
    pub subnet6: u16,
}

/// What the founders of a mesh agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundingTerms {
    /// Name of the mesh.
    pub name: String,
    /// 16 random bytes.
    pub nonce: [u8; 16],
    /// Allows second-scale rotation; for laboratories only.
    pub lab: bool,
    /// The organisations, in any order.
    pub founders: Vec<Founder>,
    /// When it is drafted.
    pub now: Timestamp,
}

/// Drafts a genesis with the default limits; nobody has signed it yet.
pub fn genesis(terms: &FoundingTerms) -> Result<MeshGenesis, FoundingError> {
    let mut founders = terms.founders.clone();
    founders.sort_by_key(|founder| founder.org);
    let member = |Founder { org, prefix4, subnet6 }| Member { org, prefix4, subnet6 };
    let genesis = MeshGenesis {
        version: VERSION,
        name: terms.name.clone(),
        nonce: terms.nonce,
        lab: terms.lab,
        agreement: AgreementBody {
            number: 0,
            agreement_version: 1,
            members: founders.into_iter().map(member).collect(),
            not_before: terms.now,
            not_after: terms.now.plus(AGREEMENT_LIFE_S),
            freshness_soft_s: FRESHNESS_SOFT_S,
            freshness_hard_s: FRESHNESS_HARD_S,
            key_age_max_s: KEY_AGE_MAX_S,
            grace_max_s: GRACE_MAX_S,
            post_quantum: 0,
        },
        witness_quorum: 0,
    };
    check_genesis(&genesis)?;
    Ok(genesis)
}

/// Id of the mesh that a genesis founds; known before anybody signs.
pub fn mesh_id(genesis: &MeshGenesis) -> MeshId {
    MeshId(record_id(genesis, &NO_MESH).0)
}

/// Checks what every founder has to check before it signs another's draft.
pub fn check_genesis(genesis: &MeshGenesis) -> Result<(), FoundingError> {
    check_name(&genesis.name)?;
    let agreement = &genesis.agreement;
    if agreement.number != 0 || agreement.agreement_version != 1 {
        return Err(FoundingError::NotFirst);
    }
    if agreement.freshness_soft_s == 0
        || agreement.freshness_soft_s > agreement.freshness_hard_s
        || agreement.key_age_max_s == 0
        || agreement.post_quantum > 1
        || agreement.not_before >= agreement.not_after
    {
        return Err(FoundingError::Limits);
    }
    let members = &agreement.members;
    if members.is_empty() || members.len() > FOUNDERS_MAX {
        return Err(FoundingError::Founders);
    }
    for (index, member) in members.iter().enumerate() {
        check_member(member, members.iter().skip(index + 1))?;
    }
    if members.is_sorted_by_key(|member| member.org) { Ok(()) } else { Err(FoundingError::Unsorted) }
}

fn check_member<'a>(member: &Member, others: impl Iterator<Item = &'a Member>) -> Result<(), FoundingError> {
    let range = prefix_range(&member.prefix4).ok_or(FoundingError::Prefix(member.org))?;
    for other in others {
        if other.org == member.org {
            return Err(FoundingError::FounderTwice(member.org));
        }
        if other.subnet6 == member.subnet6 {
            return Err(FoundingError::Subnet6(member.org, other.org));
        }
        let (first, last) = prefix_range(&other.prefix4).ok_or(FoundingError::Prefix(other.org))?;
        if range.0 <= last && first <= range.1 {
            return Err(FoundingError::Overlap(member.org, other.org));
        }
    }
    Ok(())
}

/// First and last address of an organisation's prefix; none if it can't be one.
fn prefix_range(prefix: &Prefix) -> Option<(u32, u32)> {
    match prefix.parts()? {
        (IpAddr::V4(addr), len) if PREFIX4_LEN.contains(&len) => {
            let first = u32::from(addr);
            Some((first, first | u32::MAX.checked_shr(u32::from(len))?))
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _) => None,
    }
}

/// Checks a drafted genesis and adds a founder's signature to it.
pub fn sign_genesis(envelope: &mut Envelope, key: &SigningKey) -> Result<MeshId, FoundingError> {
    let genesis: MeshGenesis = envelope.record().map_err(FoundingError::NotGenesis)?;
    check_genesis(&genesis)?;
    key.sign_envelope(envelope, &NO_MESH);
    Ok(mesh_id(&genesis))
}

/// Public keys of a steward, one purpose each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StewardPublicKeys {
    /// Signs records.
    pub record: PublicKey,
    /// Signs the heads of the audit log.
    pub log: PublicKey,
    /// Countersigns the heads of other organisations' logs.
    pub witness: PublicKey,
    /// Raw public key of the steward's TLS server.
    pub tls: PublicKey,
}

impl From<&StewardDelegation> for StewardPublicKeys {
    fn from(delegation: &StewardDelegation) -> Self {
        Self {
            record: delegation.record_key,
            log: delegation.log_key,
            witness: delegation.witness_key,
            tls: delegation.tls_key,
        }
    }
}

/// What a root lets a steward do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelegationTerms {
    /// Organisation that delegates.
    pub org: OrgId,
    /// Version of the root that signs.
    pub root_version: u32,
    /// Counts the delegations of this root version.
    pub serial: u32,
    /// The steward's keys.
    pub keys: StewardPublicKeys,
    /// What the steward may sign.
    pub roles: Roles,
    /// First moment of validity.
    pub now: Timestamp,
}

/// Lets a steward act in a mesh, signed by keys of the root.
pub fn delegate(
    terms: &DelegationTerms,
    mesh: &MeshId,
    root: &[&SigningKey],
) -> Result<Envelope, FoundingError> {
    let StewardPublicKeys { record, log, witness, tls } = terms.keys;
    let mut keys = [record, log, witness, tls];
    keys.sort();
    if !keys.is_sorted_by(|a, b| a < b) || !keys.iter().all(is_signing_key) {
        return Err(FoundingError::StewardKeys);
    }
    let delegation = StewardDelegation {
        version: VERSION,
        org: terms.org,
        root_version: terms.root_version,
        serial: terms.serial,
        record_key: record,
        log_key: log,
        witness_key: witness,
        tls_key: tls,
        roles: terms.roles,
        label_namespace: String::new(),
        not_before: terms.now,
        not_after: terms.now.plus(DELEGATION_LIFE_S),
    };
    Ok(sign(&delegation, mesh, root))
}

fn check_name(name: &str) -> Result<(), FoundingError> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(fits) {
        Ok(())
    } else {
        Err(FoundingError::Name(name.to_owned()))
    }
}

fn record_id<R: Record>(record: &R, mesh: &MeshId) -> RecordId {
    match Envelope::new(record).record_id(mesh) {
        Some(id) => id,
        None => unreachable!("every record type has a known kind"),
    }
}

#[cfg(test)]
mod tests;
