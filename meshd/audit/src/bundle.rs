//! All of an audit in one file: the chain and the logs, with a manifest.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use meshd_trust::log::{Note, Severity};
use meshd_wire::{MeshId, OrgId, Timestamp};
use sha2::{Digest, Sha256};

use crate::archive::{self, ArchiveError};
use crate::chain::{Chain, ChainError};
use crate::files::{Files, FilesError};
use crate::frames::write_frames;
use crate::log::{self, LogSource};
use crate::notes;
use crate::pages::{self, Page};

/// Largest bundle that is read: the logs of a thousand nodes in two years.
pub const BUNDLE_BYTES_MAX: usize = 1 << 30;

const MANIFEST: &str = "MANIFEST";
const ABOUT: &str = "about";
const CHAIN: &str = "chain";
const LOG: &str = "log/";
const FORMAT: &str = "meshd-bundle 1";

/// A bundle that is what its manifest says; nothing else is believed of it yet.
#[derive(Debug)]
pub struct Bundle<'b> {
    mesh: MeshId,
    made: Timestamp,
    files: BTreeMap<&'b str, &'b [u8]>,
}

/// Says why bytes are no bundle, or why one can't be made.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Larger than any.
    #[error("it has more than {BUNDLE_BYTES_MAX} bytes")]
    TooLarge,
    /// No archive as bundles are.
    #[error("it is no bundle")]
    Archive(#[source] ArchiveError),
    /// A file that every bundle has.
    #[error("it is no bundle: it has no {0}")]
    Lacks(&'static str),
    /// A file that is not what the manifest says.
    #[error("it was changed: {0} is not what its manifest says")]
    Changed(String),
    /// Another format, or a newer release's.
    #[error("it is no bundle of a format that is known here")]
    About,
    /// A file that no bundle has.
    #[error("it is no bundle: it has a file {0}")]
    Stranger(String),
    /// A bundle of another mesh.
    #[error("it is of the mesh {found}, not of {wanted}")]
    OtherMesh {
        /// Mesh it says it is of.
        found: MeshId,
        /// Mesh that was asked for.
        wanted: MeshId,
    },
    /// A chain that proves no mesh.
    #[error("its chain proves no mesh")]
    Chain(#[source] ChainError),
    /// The chain proves another mesh than the bundle says.
    #[error("its chain is not that of the mesh {0}")]
    Swapped(MeshId),
    /// Something that is to go into a bundle can't be read.
    #[error(transparent)]
    Files(#[from] FilesError),
}

impl BundleError {
    /// What the auditor has to think of it; none where a wrong file was named.
    pub fn severity(&self) -> Option<Severity> {
        match self {
            Self::Changed(_) | Self::Swapped(_) => Some(Severity::Tampering),
            Self::TooLarge
            | Self::Archive(_)
            | Self::Lacks(_)
            | Self::About
            | Self::Stranger(_)
            | Self::OtherMesh { .. }
            | Self::Chain(_)
            | Self::Files(_) => None,
        }
    }
}

impl<'b> Bundle<'b> {
    /// Reads a bundle strictly.
    pub fn from_bytes(bytes: &'b [u8]) -> Result<Self, BundleError> {
        if bytes.len() > BUNDLE_BYTES_MAX {
            return Err(BundleError::TooLarge);
        }
        let files = archive::read(bytes).map_err(BundleError::Archive)?;
        for wanted in [MANIFEST, ABOUT, CHAIN] {
            if !files.contains_key(wanted) {
                return Err(BundleError::Lacks(wanted));
            }
        }
        check_manifest(&files)?;
        let (mesh, made) = files.get(ABOUT).and_then(|about| read_about(about)).ok_or(BundleError::About)?;
        let bundle = Self { mesh, made, files };
        bundle.check_names()?;
        Ok(bundle)
    }

    /// Mesh that it says it is of.
    pub fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// When it was made, as who made it says.
    pub fn made(&self) -> Timestamp {
        self.made
    }

    /// The chain of the mesh, which must be the one wanted.
    pub fn chain(&self, wanted: Option<MeshId>) -> Result<Chain, BundleError> {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != self.mesh) {
            return Err(BundleError::OtherMesh { found: self.mesh, wanted });
        }
        let bytes = self.files.get(CHAIN).ok_or(BundleError::Lacks(CHAIN))?;
        let chain = match Chain::read(bytes, Some(self.mesh)) {
            Ok(chain) => chain,
            Err(ChainError::OtherMesh { .. }) => return Err(BundleError::Swapped(self.mesh)),
            Err(error) => return Err(BundleError::Chain(error)),
        };
        if chain.is_in_order() { Ok(chain) } else { Err(BundleError::Changed(CHAIN.to_owned())) }
    }

    /// The logs in it.
    pub fn logs(&self) -> Vec<BundleLog<'_>> {
        let names = self.files.keys().filter_map(|name| name.strip_prefix(LOG));
        let orgs: BTreeSet<OrgId> =
            names.filter_map(|rest| rest.split('/').next()).filter_map(|org| org.parse().ok()).collect();
        orgs.into_iter().map(|org| BundleLog { bundle: self, org, prefix: format!("{LOG}{org}/") }).collect()
    }

    /// No file but those of the format, and at least one log.
    fn check_names(&self) -> Result<(), BundleError> {
        for name in self.files.keys() {
            let is_known = [MANIFEST, ABOUT, CHAIN].contains(name)
                || name
                    .strip_prefix(LOG)
                    .and_then(|rest| rest.split_once('/'))
                    .is_some_and(|(org, _)| org.parse().is_ok_and(|id: OrgId| id.to_string() == org));
            if !is_known {
                return Err(BundleError::Stranger((*name).to_owned()));
            }
        }
        if self.logs().is_empty() { Err(BundleError::Lacks("log")) } else { Ok(()) }
    }
}

/// The files of one log in a bundle.
#[derive(Debug)]
pub struct BundleLog<'b> {
    bundle: &'b Bundle<'b>,
    org: OrgId,
    prefix: String,
}

impl BundleLog<'_> {
    /// Organisation whose log it is.
    pub fn org(&self) -> OrgId {
        self.org
    }

    /// What an audit needs of it.
    pub fn source(&self) -> LogSource<'_> {
        let names = self.bundle.files.keys().filter_map(|name| name.strip_prefix(self.prefix.as_str()));
        LogSource { org: self.org, files: self, sealed: Some(names.map(str::to_owned).collect()) }
    }
}

impl Files for BundleLog<'_> {
    fn read(&self, path: &str) -> Result<Option<Cow<'_, [u8]>>, FilesError> {
        let name = format!("{}{path}", self.prefix);
        Ok(self.bundle.files.get(name.as_str()).map(|bytes| Cow::Borrowed(*bytes)))
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, FilesError> {
        let dir = format!("{}{dir}/", self.prefix);
        let behind = self.bundle.files.range(dir.as_str()..).map(|(name, _)| *name);
        let within = behind.map_while(|name| name.strip_prefix(dir.as_str()));
        Ok(within.filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }
}

/// Makes a bundle of a chain and logs, as they are: it is not said to be clean.
pub fn write_bundle(
    mut chain: Chain,
    logs: &[LogSource<'_>],
    made: Timestamp,
) -> Result<Vec<u8>, BundleError> {
    for log in logs {
        for delegation in log::delegations(log)? {
            chain.take_delegation(&delegation);
        }
    }
    let envelopes = chain.in_order();
    let framed = write_frames(envelopes.iter().map(Vec::as_slice));
    let framed = framed.map_err(|error| BundleError::Chain(ChainError::Frames(error)))?;
    let about = format!("{FORMAT}\nmesh {}\nmade {}\n", chain.mesh(), made.0);
    let mut files = BTreeMap::from([(ABOUT.to_owned(), about.into_bytes()), (CHAIN.to_owned(), framed)]);
    for log in logs {
        put_log(&chain, log, &mut files)?;
    }
    let manifest = manifest(files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    files.insert(MANIFEST.to_owned(), manifest.into_bytes());
    archive::write(&files).map_err(BundleError::Archive)
}

/// Puts the files of a log in, each tile as wide as its largest checkpoint makes it.
fn put_log(
    chain: &Chain,
    log: &LogSource<'_>,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> Result<(), FilesError> {
    let prefix = format!("{LOG}{}/", log.org);
    let mut size = 0;
    for path in notes::paths(log.files)? {
        let Some(bytes) = log.files.read(&path)? else { continue };
        // What nobody believes goes in as well: it may be what the audit is about.
        let said = Note::from_bytes(&bytes).ok();
        if let Some(one) = said.and_then(|_| notes::believe(&bytes, chain, &log.org)) {
            size = size.max(one.verified.checkpoint.head.size);
        }
        files.insert(format!("{prefix}{path}"), bytes.into_owned());
    }
    for (tile, what) in pages::all(size) {
        let page: Option<Page<'_>> = pages::read(log.files, tile, what.path())?;
        if let Some(page) = page {
            files.insert(format!("{prefix}{}", what.path()(&tile)), page.cut(what));
        }
    }
    Ok(())
}

fn manifest<'f>(files: impl Iterator<Item = (&'f str, &'f [u8])>) -> String {
    files.map(|(name, bytes)| line(name, bytes)).collect()
}

/// What `sha256sum` prints for a file.
fn line(name: &str, bytes: &[u8]) -> String {
    format!("{}  {name}\n", HEXLOWER.encode(&Sha256::digest(bytes)))
}

fn check_manifest(files: &BTreeMap<&str, &[u8]>) -> Result<(), BundleError> {
    let others = || files.iter().filter(|(name, _)| **name != MANIFEST).map(|(name, bytes)| (*name, *bytes));
    let found = files.get(MANIFEST).copied().unwrap_or_default();
    if manifest(others()).as_bytes() == found {
        return Ok(());
    }
    let lines: BTreeSet<&[u8]> = found.split_inclusive(|byte| *byte == b'\n').collect();
    let changed = others().find(|(name, bytes)| !lines.contains(line(name, bytes).as_bytes()));
    Err(BundleError::Changed(changed.map_or(MANIFEST, |(name, _)| name).to_owned()))
}

fn read_about(bytes: &[u8]) -> Option<(MeshId, Timestamp)> {
    let text = str::from_utf8(bytes).ok()?;
    let mut lines = text.split('\n');
    let (format, mesh, made) = (lines.next()?, lines.next()?, lines.next()?);
    let mesh = mesh.strip_prefix("mesh ")?.parse().ok()?;
    let made = made.strip_prefix("made ")?.parse().ok()?;
    let again = format!("{FORMAT}\nmesh {mesh}\nmade {made}\n");
    (format == FORMAT && again == text).then_some((mesh, Timestamp(made)))
}
