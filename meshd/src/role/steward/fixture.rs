//! A mesh of one organisation with its steward, for tests.

use std::net::{Ipv4Addr, SocketAddr};

use meshd_trust::founding::{self, DelegationTerms, Founder, FoundingTerms};
use meshd_trust::{Floor, Roster, SigningKey, join};
use meshd_wire::enrol::{EnrolReply, EnrolRequest, Refused};
use meshd_wire::record::{Prefix, Roles};
use meshd_wire::{Envelope, JoinToken, MeshId, OrgId, PublicKey, Timestamp};
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::{Answer, CosignAsk, InviteSpec, NotCosigned, Steward, StewardSeeds};
use crate::config::Suites;
use crate::enrol::CosignAnswer;
use crate::membership::NodeSecrets;

/// The time of every test.
pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000);
/// Exporter of a connection that exists only in the test.
pub(crate) const EXPORTER: [u8; 32] = [0xee; 32];

/// A steward and what proves it.
pub(crate) struct Home {
    pub(crate) dir: TempDir,
    pub(crate) steward: Steward,
    pub(crate) mesh: MeshId,
    pub(crate) org: OrgId,
    pub(crate) tokens: u64,
}

/// Founds one mesh of some organisations with prefixes of this length; `seed` makes meshes differ.
fn found(seed: u8, names: &[&str], prefix_len: u8) -> Vec<Home> {
    let mut stewards: Vec<(TempDir, Steward, SigningKey)> = Vec::new();
    for number in (0..).take(names.len()) {
        let dir = tempfile::tempdir().expect("directory");
        let mut random = [seed; 128];
        for (at, byte) in random.iter_mut().enumerate() {
            *byte ^= at as u8 ^ (number << 7);
        }
        let steward =
            Steward::create(&dir.path().join("steward"), StewardSeeds::new(&random)).expect("steward");
        stewards.push((dir, steward, root(seed, number)));
    }
    let roots: Vec<(OrgId, Envelope)> = names
        .iter()
        .zip(&stewards)
        .map(|(name, (_, _, root))| founding::org_root(name, &[root], 1, NOW).expect("root"))
        .collect();
    let founder = |((org, _), number): (&(OrgId, Envelope), u8)| Founder {
        org: *org,
        prefix4: Prefix::v4(Ipv4Addr::new(10, 91 + number, 0, 0), prefix_len),
        subnet6: 1 + u16::from(number),
    };
    let terms = FoundingTerms {
        name: "meadow".into(),
        nonce: [seed; 16],
        lab: true,
        founders: roots.iter().zip(0..).map(founder).collect(),
        now: NOW,
    };
    let mut genesis = Envelope::new(&founding::genesis(&terms).expect("genesis"));
    let mesh = founding::mesh_id(&founding::genesis(&terms).expect("genesis"));
    for (_, _, root) in &stewards {
        founding::sign_genesis(&mut genesis, root).expect("signed");
    }
    let delegations = roots.iter().zip(&stewards).map(|((org, _), (_, steward, root))| {
        let keys = steward.public_keys();
        let terms =
            DelegationTerms { org: *org, root_version: 1, serial: 1, keys, roles: Roles::ALL, now: NOW };
        founding::delegate(&terms, &mesh, &[root]).expect("delegation").to_bytes()
    });
    let chain = roots.iter().map(|(_, root)| root.to_bytes()).chain([genesis.to_bytes()]).chain(delegations);
    let mut roster = Roster::new(mesh, Floor::none());
    assert_eq!(roster.accept_all(&chain.collect::<Vec<_>>(), NOW), []);
    let orgs: Vec<OrgId> = roots.iter().map(|(org, _)| *org).collect();
    stewards
        .into_iter()
        .zip(orgs)
        .map(|((dir, mut steward, _), org)| {
            steward.adopt(&roster, &org).expect("adopted");
            Home { dir, steward, mesh, org, tokens: 0 }
        })
        .collect()
}

/// The root key of the organisation with this number in a mesh that was founded so.
pub(crate) fn root(seed: u8, number: u8) -> SigningKey {
    SigningKey::from_seed([seed ^ 0x55 ^ number; 32])
}

/// What a steward's directory holds at this moment.
pub(crate) fn copy_of(steward: &std::path::Path) -> TempDir {
    fn copy(from: &std::path::Path, to: &std::path::Path) {
        for file in std::fs::read_dir(from).expect("lists") {
            let file = file.expect("file");
            let to = to.join(file.file_name());
            if file.path().is_dir() {
                std::fs::create_dir(&to).expect("is made");
                copy(&file.path(), &to);
            } else {
                std::fs::copy(file.path(), to).expect("copies");
            }
        }
    }
    let backup = tempfile::tempdir().expect("directory");
    copy(steward, backup.path());
    backup
}

impl Home {
    /// Founds a mesh on a prefix of this length; `seed` makes meshes differ.
    pub(crate) fn found(seed: u8, prefix_len: u8) -> Self {
        found(seed, &["alpha"], prefix_len).remove(0)
    }

    /// Founds a mesh of two organisations, `alpha` and `beta`.
    pub(crate) fn found_two(seed: u8) -> [Self; 2] {
        found(seed, &["alpha", "beta"], 16).try_into().unwrap_or_else(|_| unreachable!("two"))
    }

    /// Makes a token with these hints.
    pub(crate) fn invite_at(&mut self, spec: &InviteSpec, hints: &[SocketAddr]) -> JoinToken {
        self.tokens += 1;
        let mut random = Zeroizing::new([0xab; 24]);
        random[..8].copy_from_slice(&self.tokens.to_be_bytes());
        self.steward.invite(spec, hints, NOW, &random).expect("token")
    }

    /// Makes a token of 15 minutes.
    pub(crate) fn invite(&mut self) -> JoinToken {
        self.invite_at(&quarter_hour(), &[SocketAddr::from(([192, 0, 2, 1], 51820))])
    }

    /// Envelope of a request.
    pub(crate) fn request(&self, secrets: &NodeSecrets, name: &str, now: Timestamp) -> Vec<u8> {
        let keys = secrets.sign_keys(&self.mesh, Suites::WG, now, now.0 * 1000, now).to_bytes();
        secrets.sign_request(self.mesh, self.org, name.into(), keys, now).to_bytes()
    }

    /// Enrols over a connection that exists only in the test.
    pub(crate) fn enrol(
        &mut self,
        token: &JoinToken,
        secrets: &NodeSecrets,
        name: &str,
        now: Timestamp,
    ) -> Answer {
        let request = self.request(secrets, name, now);
        let key = join::token_key(&token.secret, &token.mesh, &token.id);
        let mac = join::proof(&key, &request, &EXPORTER);
        let request = EnrolRequest::Enrol { token: token.id, request, mac };
        self.steward.answer(&secrets.transport().public(), &EXPORTER, &request, now)
    }

    /// Admits a host without a token.
    pub(crate) fn admit(&mut self, secrets: &NodeSecrets, name: &str) -> Answer {
        let request = self.request(secrets, name, NOW);
        self.steward.admit(&request, None, &[], NOW)
    }

    /// A roster that has heard everything that the steward proves.
    pub(crate) fn roster(&self, now: Timestamp) -> Roster {
        let mut roster = Roster::new(self.mesh, Floor::of_org(self.org));
        assert_eq!(roster.accept_all(&self.steward.chain(), now), []);
        roster
    }
}

/// Shows the log of one to the other, which cosigns it so much later.
pub(crate) fn cosign(log: &mut Home, witness: &mut Home, later_s: u64) -> Result<(), NotCosigned> {
    let keys = [witness.steward.public_keys().witness];
    let ask = log.steward.cosign_ask(&witness.org, &keys).expect("reads").expect("something to cosign");
    let CosignAsk { request, note } = ask;
    let peer = PublicKey([1; 32]);
    let request = EnrolRequest::Cosign { request };
    let answer = match witness.steward.answer(&peer, &EXPORTER, &request, NOW.plus(later_s)).reply {
        EnrolReply::Cosigned { signature } => CosignAnswer::Cosigned(signature),
        EnrolReply::Witnessed { checkpoint } => CosignAnswer::Witnessed(checkpoint),
        other => panic!("{other:?}"),
    };
    log.steward.on_cosigned(&witness.org, &keys, &note, answer)
}

/// Secrets of the host with a number.
pub(crate) fn secrets(number: u16) -> NodeSecrets {
    let mut random = [0x33; NodeSecrets::RANDOM_LEN];
    for (part, chunk) in random.chunks_mut(32).enumerate() {
        chunk[0] = part as u8;
        chunk[1..3].copy_from_slice(&number.to_be_bytes());
    }
    NodeSecrets::new(&random)
}

/// Terms of an ordinary token.
pub(crate) fn quarter_hour() -> InviteSpec {
    InviteSpec { ttl_s: 15 * 60, ..InviteSpec::default() }
}

/// Envelope of the certificate in a reply.
pub(crate) fn cert_of(answer: &Answer) -> Vec<u8> {
    match &answer.reply {
        EnrolReply::Admitted { cert, .. } => cert.clone(),
        other => panic!("not admitted: {other:?}"),
    }
}

/// Reason of a refusal; none if the request was granted.
pub(crate) fn refusal_of(answer: &Answer) -> Option<Refused> {
    match &answer.reply {
        EnrolReply::Refused { why } => Some(*why),
        EnrolReply::Admitted { .. }
        | EnrolReply::Chain { .. }
        | EnrolReply::Done
        | EnrolReply::Claimed { .. }
        | EnrolReply::Logged { .. }
        | EnrolReply::Cosigned { .. }
        | EnrolReply::Witnessed { .. }
        | EnrolReply::Grown { .. }
        | EnrolReply::Copied { .. } => None,
    }
}
