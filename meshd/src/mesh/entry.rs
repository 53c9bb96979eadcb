//! How this host comes into a mesh: it founds it, joins it, or imports a steward's answer.

use meshd_api::{ApiError, ErrorCode};
use meshd_trust::{Floor, Roster, Standing};
use meshd_wire::enrol::{EnrolReply, RegistryHint};
use meshd_wire::{Envelope, MeshId, OrgId, Timestamp};
use zeroize::Zeroizing;

use crate::clock;
use crate::config::{Config, RegistryConfig, Suites};
use crate::enrol::Joined;
use crate::membership::{Membership, NodeSecrets};
use crate::role::steward::{Steward, StewardError, StewardSeeds};
use crate::state_dir::StateDir;

/// Everything a mesh starts with.
pub struct Entry {
    pub(super) membership: Membership,
    pub(super) roster: Roster,
}

/// The signed records of a new mesh.
pub struct Founding {
    /// Organisation this host stands for.
    pub org: OrgId,
    /// Envelopes of all founders' roots.
    pub roots: Vec<Vec<u8>>,
    /// Envelope of the genesis.
    pub genesis: Vec<u8>,
    /// Envelopes of delegations.
    pub delegations: Vec<Vec<u8>>,
    /// Registries to share instead of serving one.
    pub registries: Vec<String>,
    /// Name of this host.
    pub name: String,
}

impl Entry {
    /// What a join with a token gave.
    pub fn joined(secrets: NodeSecrets, joined: Joined) -> Self {
        let Joined { roster, org, registries, stewards } = joined;
        let membership = Membership::new(roster.mesh(), org, secrets, registries, stewards, false);
        Self { membership, roster }
    }

    /// What a steward answered to a request by file. The ids a person typed are the pin.
    pub fn imported(
        secrets: &NodeSecrets,
        mesh: MeshId,
        org: OrgId,
        suites: Suites,
        response: &[u8],
        now: Timestamp,
    ) -> Result<Self, ApiError> {
        let malformed = |cause: String| {
            ApiError::new(ErrorCode::BadRequest, "that is no answer of a steward").with_cause(cause)
        };
        let reply = EnrolReply::from_bytes(response).map_err(|error| malformed(error.to_string()))?;
        let EnrolReply::Admitted { cert, records, registries, stewards } = reply else {
            return Err(malformed("it is another kind of reply".into()));
        };
        let mut roster = Roster::new(mesh, Floor::of_org(org));
        let records: Vec<Vec<u8>> = records.into_iter().map(Vec::from).collect();
        let refused = roster.accept_all(&records, now);
        if let Some((_, refusal)) = refused.first()
            && roster.genesis().is_none()
        {
            return Err(ApiError::new(
                ErrorCode::WrongMesh,
                "the answer does not prove the mesh that was asked for",
            )
            .with_cause(refusal.to_string())
            .with_hint("compare the ids that were typed with those of `meshctl status` at the steward"));
        }
        accept(&mut roster, &cert, now, "the certificate in the answer does not verify")?;
        let view = roster.node(&secrets.node()).ok_or_else(|| {
            ApiError::new(ErrorCode::BadRequest, "the answer is for another host or another request")
        })?;
        if view.org() != org {
            return Err(ApiError::new(ErrorCode::WrongMesh, "the answer is for another organisation"));
        }
        let membership = Membership::new(mesh, org, secrets.clone(), registries, stewards, false);
        accept_keys(&mut roster, &membership.secrets, suites, now)?;
        Ok(Self { membership, roster })
    }

    /// Founds a mesh, or this organisation's part of it, with this host as steward and first node.
    pub fn founded(
        config: &Config,
        state: &StateDir,
        secrets: NodeSecrets,
        founding: Founding,
        now: Timestamp,
    ) -> Result<Self, ApiError> {
        let Founding { org, roots, genesis, delegations, registries, name } = founding;
        let registries = registry_hints(config, &registries)?;
        let mesh = Envelope::from_bytes(&genesis)
            .ok()
            .and_then(|envelope| envelope.record_id(&MeshId([0; 32])))
            .map(|id| MeshId(id.0))
            .ok_or_else(|| ApiError::new(ErrorCode::BadRequest, "the genesis can't be read"))?;
        let mut roster = Roster::new(mesh, Floor::of_org(org));
        let records: Vec<Vec<u8>> = roots.into_iter().chain([genesis]).chain(delegations).collect();
        if let Some((index, refusal)) = roster.accept_all(&records, now).first() {
            return Err(ApiError::new(ErrorCode::RecordRefused, "the founding records do not verify")
                .with_cause(format!("record {index}: {refusal}")));
        }
        let mut steward = open_steward(state)?;
        steward.adopt(&roster, &org).map_err(|error| {
            ApiError::new(ErrorCode::RecordRefused, "the founding records make no steward of this host")
                .with_cause(crate::chain::of(&error))
                .with_hint("run `meshctl mesh create` on the host that prepared the keys")
        })?;
        let suites = config.suites;
        let keys = own_keys(&secrets, &mesh, suites, now);
        let request = secrets.sign_request(mesh, org, name, keys, now).to_bytes();
        let answer = steward.admit(&request, None, &[], now);
        let EnrolReply::Admitted { cert, .. } = answer.reply else {
            return Err(super::desk::declined(&answer.reply));
        };
        for record in &answer.publish {
            accept(&mut roster, record, now, "the steward's own records do not verify")?;
        }
        accept(&mut roster, &cert, now, "the first certificate does not verify")?;
        accept_keys(&mut roster, &secrets, suites, now)?;
        if roster.standing(&secrets.node(), now) != Standing::InForce {
            return Err(ApiError::new(ErrorCode::Internal, "the first node of the mesh is not in force"));
        }
        Ok(Self { membership: Membership::new(mesh, org, secrets, registries, Vec::new(), true), roster })
    }
}

/// Removes the steward's book and the registry after a founding that failed: what they hold never came to be.
///
/// The keys stay, because a delegation may name them already.
pub fn forget_founding(state: &StateDir) {
    let steward = state.join("steward");
    for path in [steward.join("book.redb"), steward.join("log"), state.join("registry.redb")] {
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        if let Err(error) = removed
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::error!(%error, path = %path.display(), "remove what is left of a failed founding");
        }
    }
}

/// What the keys of a steward are made of.
pub(super) fn random_seeds() -> Result<Zeroizing<[u8; StewardSeeds::RANDOM_LEN]>, ApiError> {
    let mut random = Zeroizing::new([0; StewardSeeds::RANDOM_LEN]);
    aws_lc_rs::rand::fill(&mut *random)
        .map_err(|_| ApiError::new(ErrorCode::Internal, "the system gives no random bytes"))?;
    Ok(random)
}

/// Opens the steward role's files, made if absent.
pub fn open_steward(state: &StateDir) -> Result<Steward, ApiError> {
    let dir = state.join("steward");
    let opened = match Steward::open(&dir) {
        Err(StewardError::Missing) => {
            let random = random_seeds()?;
            Steward::create(&dir, StewardSeeds::new(&random))
        }
        opened => opened,
    };
    opened.map_err(|error| {
        ApiError::new(ErrorCode::StorageFailed, "the steward's files can't be used")
            .with_cause(crate::chain::of(&error))
    })
}

fn own_keys(secrets: &NodeSecrets, mesh: &MeshId, suites: Suites, now: Timestamp) -> Vec<u8> {
    secrets.sign_keys(mesh, suites, now, clock::wall_ms(), now).to_bytes()
}

fn accept_keys(
    roster: &mut Roster,
    secrets: &NodeSecrets,
    suites: Suites,
    now: Timestamp,
) -> Result<(), ApiError> {
    let keys = own_keys(secrets, &roster.mesh(), suites, now);
    accept(roster, &keys, now, "the tunnel keys of this host do not verify")
}

fn accept(roster: &mut Roster, record: &[u8], now: Timestamp, what: &str) -> Result<(), ApiError> {
    roster
        .accept(record, now)
        .map(|_| ())
        .map_err(|refusal| ApiError::new(ErrorCode::RecordRefused, what).with_cause(refusal.to_string()))
}

/// Registries of a new mesh; an empty list means that this host serves one.
fn registry_hints(config: &Config, shared: &[String]) -> Result<Vec<RegistryHint>, ApiError> {
    if let RegistryConfig::Etcd { endpoints, .. } = &config.registry {
        return Ok(vec![RegistryHint { url: endpoints.join(","), tls_key: None }]);
    }
    shared.iter().map(|text| shared_hint(text)).collect()
}

/// Reads `meshd://KEY@HOST:PORT` or the URL of an etcd.
fn shared_hint(text: &str) -> Result<RegistryHint, ApiError> {
    if text.starts_with("http://") || text.starts_with("https://") {
        return Ok(RegistryHint { url: text.to_owned(), tls_key: None });
    }
    let parsed = text.strip_prefix("meshd://").and_then(|rest| {
        let (key, at) = rest.split_once('@')?;
        Some(RegistryHint { url: format!("meshd://{at}"), tls_key: Some(key.parse().ok()?) })
    });
    parsed.ok_or_else(|| {
        ApiError::new(ErrorCode::BadRequest, format!("`{text}` is no registry")).with_hint(
            "write meshd://KEY@HOST:PORT as `meshctl status` of the other founder shows it, or an etcd URL",
        )
    })
}
