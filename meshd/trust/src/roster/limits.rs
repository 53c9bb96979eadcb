//! Bounds of a roster, each with its reason.

/// Nodes of a mesh that are held at once: sixteen times the largest mesh that is planned for.
pub const NODES_MAX: usize = 16_384;
/// Nodes whose high-water marks are remembered after their records were forgotten.
pub const NODE_MARKS_MAX: usize = 4 * NODES_MAX;
/// Organisations of one agreement; more signatures than this do not fit on a genesis.
pub const ORGS_MAX: usize = 64;
/// Versions of one organisation's root: more than a century at the longest permitted life.
pub const ROOT_VERSIONS_MAX: usize = 64;
/// Keys of one root; more signatures than this do not fit on a root.
pub const ROOT_KEYS_MAX: usize = 32;
/// Delegations of one organisation that are held, those of older root versions included.
pub const DELEGATIONS_MAX: usize = 64;
/// Records of unknown kinds that are kept to be passed on; nobody can tell whether they are worth it.
pub const OPAQUE_MAX: usize = 16;
/// Prefixes one certificate may claim besides its addresses.
pub const CLAIMS_MAX: usize = 64;
/// Plain WireGuard peers of one node: each claims an IPv4 and an IPv6 address.
pub const EXTERNALS_MAX: usize = CLAIMS_MAX / 2;
/// Labels of one certificate.
pub const LABELS_MAX: usize = 64;
/// Endpoints and blocks of one node: more containers than a large host runs.
pub const NODE_ENDPOINTS_MAX: usize = 4096;
/// Endpoints and blocks of a mesh: six times the ten thousand that are planned for.
pub const ENDPOINTS_MAX: usize = 65_536;
/// Endpoints of one node whose sequence is remembered, those that were withdrawn included.
pub const NODE_ENDPOINT_MARKS_MAX: usize = 2 * NODE_ENDPOINTS_MAX;
/// Endpoints of a mesh whose sequence is remembered.
pub const ENDPOINT_MARKS_MAX: usize = 4 * ENDPOINTS_MAX;
/// Labels of one endpoint: twice as many as a rule can ask for.
pub const ENDPOINT_LABELS_MAX: usize = 16;
/// Lengths of blocks: 256 addresses at most, or as many of IPv6 as people still read; at least four.
pub const BLOCK_LEN4: std::ops::RangeInclusive<u8> = 24..=30;
/// Lengths of blocks of IPv6.
pub const BLOCK_LEN6: std::ops::RangeInclusive<u8> = 112..=126;
/// Underlay addresses one node may announce; each of them costs its peers probes.
pub const CANDIDATES_MAX: usize = 32;
/// Home relays one node may announce.
pub const RELAYS_MAX: usize = 8;
/// Rounds over a set of records that arrived in any order. Records are sorted by what they build on
/// first, so a second round is rare.
pub const PASSES_MAX: usize = 16;

/// How far a record may be dated ahead of this node's time.
pub const CLOCK_SKEW_S: u64 = 5 * 60;
/// Longest life of a root. It names no beginning, so its end is measured from now.
pub const ROOT_LIFE_MAX_S: u64 = 2 * 366 * 86_400;
/// Longest life of a delegation; an issuer may date it back by the skew.
pub const DELEGATION_LIFE_MAX_S: u64 = 90 * 86_400 + CLOCK_SKEW_S;
/// Longest life of a node certificate; an issuer may date it back by the skew.
pub const CERT_LIFE_MAX_S: u64 = 7 * 86_400 + CLOCK_SKEW_S;
/// How long a claim of an endpoint holds; its node renews it at half of this.
pub const ENDPOINT_LIFE_S: u64 = 24 * 3600;
/// How long an address that was given back is left alone: late packets and answers of DNS still name it.
pub const ENDPOINT_REST_S: u64 = 60;
/// How long expired records stay visible before they are forgotten; their marks stay.
pub const EXPIRED_KEPT_S: u64 = 7 * 86_400;
/// How long the marks of a node stay after its last certificate was over. Nothing that they would refuse
/// is in time by then, and hosts that come and go do not fill the table for ever.
pub const MARKS_KEPT_S: u64 = 30 * 86_400;
