//! The founding file: a genesis and the roots of its founders, passed around until each root has signed.

use std::fmt::Write;
use std::path::Path;

use meshd_api::Exit;
use meshd_trust::founding::{FoundingError, check_genesis, mesh_id};
use meshd_trust::{SigningKey, verify_signature};
use meshd_wire::record::{MeshGenesis, OrgRoot};
use meshd_wire::{DecodeError, Envelope, MeshId, OrgId};

use crate::armour::{self, ArmourError, Content};
use crate::failure::Failure;
use crate::file;

/// Roots and genesis are signed before a mesh exists.
const NO_MESH: MeshId = MeshId([0; 32]);

/// The root of an organisation, signed by itself.
#[derive(Debug, Clone)]
pub struct Founder {
    /// Organisation id.
    pub org: OrgId,
    /// What the root says.
    pub root: OrgRoot,
    /// Its envelope as it came.
    pub envelope: Vec<u8>,
}

/// A genesis with its founders, in the order of the genesis.
#[derive(Debug, Clone)]
pub struct Founding {
    /// What the founders agree on.
    pub genesis: MeshGenesis,
    /// Its envelope, with the signatures collected so far.
    pub envelope: Envelope,
    /// The founders.
    pub founders: Vec<Founder>,
}

/// Reports a file that is no founding file, or no root.
#[derive(Debug, thiserror::Error)]
pub enum FoundingFileError {
    /// Its text can't be taken apart.
    #[error(transparent)]
    Armour(#[from] ArmourError),
    /// A record in it can't be decoded.
    #[error("a record in it can't be decoded")]
    Record(#[source] DecodeError),
    /// A genesis that breaks the rules.
    #[error("its genesis breaks the rules")]
    Genesis(#[source] FoundingError),
    /// A root that is not the first version, or that its own keys have not signed.
    #[error("the root of {name:?} is not signed by its own keys")]
    RootUnsigned {
        /// Name the root gives.
        name: String,
    },
    /// A founder of the genesis without its root in the file.
    #[error("the root of organisation {} is not in it", org.short())]
    RootMissing {
        /// The organisation.
        org: OrgId,
    },
    /// Two copies that do not say the same.
    #[error("it is about another genesis than the file before")]
    Differs,
}

impl Founder {
    /// Reads the envelope of a root; it must be a first version, signed by itself.
    pub fn from_envelope(bytes: &[u8]) -> Result<Self, FoundingFileError> {
        let envelope = Envelope::from_bytes(bytes).map_err(FoundingFileError::Record)?;
        let root: OrgRoot = envelope.record().map_err(FoundingFileError::Record)?;
        let first = root.root_version == 1 && root.prev.is_none();
        match envelope.record_id(&NO_MESH) {
            Some(id) if first && signed_by(&envelope, &root) => {
                Ok(Self { org: OrgId(id.0), root, envelope: bytes.to_owned() })
            }
            Some(_) | None => Err(FoundingFileError::RootUnsigned { name: root.name }),
        }
    }

    /// Reads a file that holds a root.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = file::read_text(path)?;
        let read = || Self::from_envelope(&armour::read_one(&text, Content::OrgRoot)?);
        read().map_err(|error| unusable(path, &error))
    }
}

impl Founding {
    /// Starts with a genesis that nobody has signed.
    pub fn new(genesis: MeshGenesis, founders: Vec<Founder>) -> Self {
        Self { envelope: Envelope::new(&genesis), genesis, founders }
    }

    /// Reads one or several copies of a founding file and unites their signatures.
    pub fn read(paths: &[impl AsRef<Path>]) -> Result<Self, Failure> {
        let mut united: Option<Self> = None;
        for path in paths.iter().map(AsRef::as_ref) {
            let copy = Self::parse(&file::read_text(path)?).map_err(|error| unusable(path, &error))?;
            united = Some(match united {
                None => copy,
                Some(before) => before.unite(copy).map_err(|error| unusable(path, &error))?,
            });
        }
        united.ok_or_else(|| Failure::new(Exit::Usage, "no founding file was given"))
    }

    /// Reads the text of a founding file.
    pub fn parse(text: &str) -> Result<Self, FoundingFileError> {
        let mut genesis = None;
        let mut roots = Vec::new();
        for block in armour::read(text)? {
            match block.content {
                Content::Genesis => genesis = genesis.or(Some(block.bytes)),
                Content::OrgRoot => roots.push(Founder::from_envelope(&block.bytes)?),
                Content::JoinRequest | Content::Admission => {}
            }
        }
        let genesis = genesis.ok_or(ArmourError::Missing { wanted: Content::Genesis })?;
        let envelope = Envelope::from_bytes(&genesis).map_err(FoundingFileError::Record)?;
        let genesis: MeshGenesis = envelope.record().map_err(FoundingFileError::Record)?;
        check_genesis(&genesis).map_err(FoundingFileError::Genesis)?;
        let founder = |org: &OrgId| {
            let found = roots.iter().find(|founder| founder.org == *org);
            found.cloned().ok_or(FoundingFileError::RootMissing { org: *org })
        };
        let members = genesis.agreement.members.iter();
        let founders = members.map(|member| founder(&member.org)).collect::<Result<_, _>>()?;
        Ok(Self { genesis, envelope, founders })
    }

    /// Text of a founding file, with words for people in front.
    pub fn to_text(&self) -> String {
        let mut text = self.summary();
        text.push_str("\n\n");
        text.push_str(&armour::write(Content::Genesis, &self.envelope.to_bytes()));
        for founder in &self.founders {
            text.push_str(&armour::write(Content::OrgRoot, &founder.envelope));
        }
        text
    }

    /// What is agreed on, for people to compare.
    pub fn summary(&self) -> String {
        let mut text = format!(
            "mesh {}{}\nid {}",
            self.genesis.name,
            if self.genesis.lab { " (laboratory)" } else { "" },
            self.mesh()
        );
        for (founder, prefix) in self.founders.iter().zip(self.prefixes()) {
            let signed = if self.has_signed(founder) { "signed" } else { "not signed yet" };
            // Writing into a String can't fail.
            let _ = write!(text, "\n  {} {prefix} {}: {signed}", founder.org, founder.root.name);
        }
        text
    }

    /// Prefixes, in the order of the founders.
    pub fn prefixes(&self) -> impl Iterator<Item = String> {
        self.genesis.agreement.members.iter().map(|member| match member.prefix4.parts() {
            Some((addr, len)) => format!("{addr}/{len}"),
            None => "(malformed prefix)".to_owned(),
        })
    }

    /// Id of the mesh; known before anybody signs.
    pub fn mesh(&self) -> MeshId {
        mesh_id(&self.genesis)
    }

    /// Founder whose root has this key, which was read from `path`.
    pub fn own(&self, key: &SigningKey, path: &Path) -> Result<&Founder, Failure> {
        let public = key.public();
        self.founders.iter().find(|founder| founder.root.keys.contains(&public)).ok_or_else(|| {
            Failure::new(
                Exit::Refused,
                format!("{} is the root key of none of the draft's organisations", path.display()),
            )
        })
    }

    /// Founders whose signatures are still missing.
    pub fn unsigned(&self) -> impl Iterator<Item = &Founder> {
        self.founders.iter().filter(|founder| !self.has_signed(founder))
    }

    /// Whether enough keys of a founder have signed.
    pub fn has_signed(&self, founder: &Founder) -> bool {
        signed_by(&self.envelope, &founder.root)
    }

    fn unite(mut self, copy: Self) -> Result<Self, FoundingFileError> {
        if self.envelope.payload() != copy.envelope.payload() {
            return Err(FoundingFileError::Differs);
        }
        for signature in copy.envelope.signatures() {
            self.envelope.sign_with(*signature);
        }
        Ok(self)
    }
}

/// Whether as many distinct keys of the root as it asks for have signed.
fn signed_by(envelope: &Envelope, root: &OrgRoot) -> bool {
    let mut keys = root.keys.clone();
    keys.sort();
    keys.dedup();
    let signed = keys.iter().filter(|key| verify_signature(envelope, &NO_MESH, key)).count();
    root.threshold > 0 && signed >= usize::from(root.threshold)
}

fn unusable(path: &Path, error: &FoundingFileError) -> Failure {
    let exit = match error {
        FoundingFileError::Armour(_)
        | FoundingFileError::Record(_)
        | FoundingFileError::RootMissing { .. } => Exit::Usage,
        FoundingFileError::Genesis(_)
        | FoundingFileError::RootUnsigned { .. }
        | FoundingFileError::Differs => Exit::Refused,
    };
    Failure::new(exit, format!("can't use {}", path.display())).because(error)
}
