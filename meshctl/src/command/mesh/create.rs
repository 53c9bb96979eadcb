//! `meshctl mesh create`.

use std::path::{Path, PathBuf};

use clap::Args;
use data_encoding::BASE64;
use meshd_api::{
    Answer, Exit, GetStatus, MemberReply, MeshCreateRequest, NodeStatus, Signed, Status, StewardKeys,
    StewardPrepareRequest,
};
use meshd_trust::SigningKey;
use meshd_trust::founding::{self, DelegationTerms, FoundingError, FoundingTerms, StewardPublicKeys};
use meshd_wire::record::Roles;
use meshd_wire::{Envelope, MeshId, OrgId, PublicKey};

use crate::command::{Daemon, join};
use crate::failure::Failure;
use crate::file;
use crate::founding::Founding;
use crate::name::Name;
use crate::output::{self, Form};
use crate::prefix::Prefix4;
use crate::root_key::{self, NewPassphrase};
use crate::time;

/// Found a mesh and make this host its first node, or that of one more founder.
#[derive(Debug, Args)]
pub struct Create {
    /// Name of the mesh.
    #[arg(required_unless_present = "genesis", conflicts_with = "genesis")]
    name: Option<Name>,
    /// Name of the organisation; that of the mesh if none is given.
    #[arg(long, conflicts_with = "genesis")]
    org: Option<Name>,
    /// IPv4 prefix of the organisation's nodes.
    #[arg(long, default_value = "10.91.0.0/16", conflicts_with = "genesis")]
    prefix: Prefix4,
    /// File for the new secret root key; ORG.root.key if none is given. Never overwritten. With --genesis, the file of
    /// the existing one.
    #[arg(long, value_name = "FILE")]
    root_key: Option<PathBuf>,
    #[command(flatten)]
    passphrase: NewPassphrase,
    /// Name of this host in the mesh; its host name if none is given.
    #[arg(long, value_name = "NAME")]
    node: Option<Name>,
    /// Allow second-scale key changes; for laboratories only.
    #[arg(long, conflicts_with = "genesis")]
    lab: bool,
    /// Draft that every organisation has signed; several copies are united.
    #[arg(long, value_name = "FILE", requires = "root_key")]
    genesis: Vec<PathBuf>,
    /// Registry to share with the other organisations: meshd://KEY@HOST:PORT, as `mesh create` of the first of them
    /// prints it, or the URL of an etcd; may be given several times.
    #[arg(long = "registry", value_name = "URL")]
    registries: Vec<String>,
}

impl Create {
    /// Founds the mesh.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        outside(&daemon.client.call(&GetStatus {}).await?.body)?;
        match &self.name {
            Some(name) => {
                let name = name.clone();
                self.alone(daemon, name).await
            }
            None => self.with_others(daemon).await,
        }
    }

    async fn alone(self, daemon: &Daemon, name: Name) -> Result<(), Failure> {
        let org_name = self.org.unwrap_or_else(|| name.clone());
        let path = self.root_key.unwrap_or_else(|| root_key::default_file(&org_name));
        file::absent(&path)?;
        let passphrase = self.passphrase.read()?;
        let key = root_key::random()?;
        let (org, root) =
            founding::org_root(&org_name.to_string(), &[&key], 1, time::now()).map_err(refused)?;
        let genesis = founding::genesis(&FoundingTerms {
            name: name.into(),
            nonce: root_key::random_bytes()?,
            lab: self.lab,
            founders: vec![founding::Founder { org, prefix4: self.prefix.to_wire(), subnet6: 1 }],
            now: time::now(),
        })
        .map_err(refused)?;
        let mut envelope = Envelope::new(&genesis);
        let mesh = founding::sign_genesis(&mut envelope, &key).map_err(refused)?;
        let steward = steward_keys(daemon).await?;
        let request = MeshCreateRequest {
            org: org.to_string(),
            roots: vec![signed(&root.to_bytes())],
            genesis: signed(&envelope.to_bytes()),
            delegations: vec![delegation(org, 1, steward, &mesh, &key)?],
            name: self.node.map(String::from),
            registries: self.registries,
        };
        // Before the daemon gets what only this key can have signed.
        root_key::write(&path, &key, passphrase.as_deref())?;
        match daemon.client.call(&request).await {
            Ok(answer) => created(daemon, &answer, &path),
            Err(error) => {
                let hint = "`meshctl status` tells whether the mesh was founded; its root key";
                Err(root_key::unused(error, &path, hint))
            }
        }
    }

    async fn with_others(self, daemon: &Daemon) -> Result<(), Failure> {
        let founding = Founding::read(&self.genesis)?;
        let path = self.root_key.ok_or_else(|| Failure::new(Exit::Usage, "--genesis needs --root-key"))?;
        let key = root_key::open(&path, &self.passphrase.existing())?;
        let founder = founding.own(&key, &path)?;
        let unsigned: Vec<&str> = founding.unsigned().map(|founder| founder.root.name.as_str()).collect();
        if !unsigned.is_empty() {
            return Err(Failure::new(
                Exit::Refused,
                format!("the draft is not signed by {}", unsigned.join(", ")),
            )
            .with_hint(
                "each organisation signs with `meshctl mesh sign`; several signed copies may be given",
            ));
        }
        let steward = steward_keys(daemon).await?;
        let request = MeshCreateRequest {
            org: founder.org.to_string(),
            roots: founding.founders.iter().map(|founder| signed(&founder.envelope)).collect(),
            genesis: signed(&founding.envelope.to_bytes()),
            delegations: vec![delegation(
                founder.org,
                founder.root.root_version,
                steward,
                &founding.mesh(),
                &key,
            )?],
            name: self.node.map(String::from),
            registries: self.registries,
        };
        let answer = daemon.client.call(&request).await?;
        created(daemon, &answer, &path)?;
        let NodeStatus { control, .. } = &answer.body.node;
        if founding.founders.len() > 1 && request.registries.is_empty() && !control.is_empty() {
            output::talk(&format!(
                "the other organisations share the registry of this host with --registry meshd://{}@{control}",
                steward.tls
            ));
        }
        Ok(())
    }
}

/// Fails early on a node that belongs to a mesh.
fn outside(status: &Status) -> Result<(), Failure> {
    match &status.mesh {
        None => Ok(()),
        Some(mesh) => {
            Err(Failure::new(Exit::Conflict, format!("this node belongs to the mesh {} already", mesh.name))
                .with_hint("`meshctl leave` makes it forget that mesh"))
        }
    }
}

async fn steward_keys(daemon: &Daemon) -> Result<StewardPublicKeys, Failure> {
    public_keys(&daemon.client.call(&StewardPrepareRequest {}).await?.body)
}

/// Reads the keys that a daemon named.
pub fn public_keys(keys: &StewardKeys) -> Result<StewardPublicKeys, Failure> {
    let key = |text: &str| {
        text.parse::<PublicKey>().map_err(|error| {
            Failure::new(Exit::Failed, "can't understand the daemon's answer").because(&error)
        })
    };
    Ok(StewardPublicKeys {
        record: key(&keys.record_key)?,
        log: key(&keys.log_key)?,
        witness: key(&keys.witness_key)?,
        tls: key(&keys.tls_key)?,
    })
}

fn refused(error: FoundingError) -> Failure {
    Failure::new(Exit::Usage, "can't found this mesh").because(&error)
}

fn delegation(
    org: OrgId,
    root_version: u32,
    keys: StewardPublicKeys,
    mesh: &MeshId,
    root: &SigningKey,
) -> Result<Signed, Failure> {
    /// The first steward of an organisation; the next one is the second.
    const FIRST_SERIAL: u32 = 1;
    let terms = DelegationTerms {
        org,
        root_version,
        serial: FIRST_SERIAL,
        keys,
        roles: Roles::ALL,
        now: time::now(),
    };
    let envelope = founding::delegate(&terms, mesh, &[root]).map_err(refused)?;
    Ok(signed(&envelope.to_bytes()))
}

fn signed(envelope: &[u8]) -> Signed {
    Signed(BASE64.encode(envelope))
}

fn created(daemon: &Daemon, answer: &Answer<MemberReply>, root_key: &Path) -> Result<(), Failure> {
    join::print_member(daemon, answer)?;
    output::talk(&root_key::warning(root_key));
    if daemon.form == Form::Human {
        output::talk("to let another host join: meshctl invite");
    }
    Ok(())
}
