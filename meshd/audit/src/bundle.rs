//! All of an audit in one file: the chain and the logs, with a manifest.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use data_encoding::HEXLOWER;
use meshd_trust::log::{Severity, TileAddress};
use meshd_wire::{MeshId, OrgId, Timestamp};
use sha2::{Digest, Sha256};

use crate::archive::{self, ArchiveError, Archived, Member, WriteError};
use crate::chain::{Chain, ChainError};
use crate::files::{FILE_BYTES_MAX, Files, FilesError, ReadAt};
use crate::frames::write_frames;
use crate::log::{self, LogSource};
use crate::notes;
use crate::pages::{self, Content};

/// Largest bundle that is read: the logs of a thousand nodes in two years.
pub const BUNDLE_BYTES_MAX: u64 = 1 << 30;

const MANIFEST: &str = "MANIFEST";
const ABOUT: &str = "about";
const CHAIN: &str = "chain";
const LOG: &str = "log/";
const FORMAT: &str = "meshd-bundle 1";

/// A bundle that is what its manifest says; nothing else is believed of it yet.
pub struct Bundle<'b> {
    mesh: MeshId,
    made: Timestamp,
    bytes: &'b dyn ReadAt,
    files: Archived,
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
    /// A file that was another one when it was read again.
    #[error("{0} changed meanwhile")]
    Unstable(String),
    /// The bundle, or something that is to go into it, can't be read.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// It can't be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<ArchiveError> for BundleError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Files(error) => Self::Files(error),
            other => Self::Archive(other),
        }
    }
}

impl From<WriteError> for BundleError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Archive(error) => error.into(),
            WriteError::Io(error) => Self::Io(error),
        }
    }
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
            | Self::Unstable(_)
            | Self::Files(_)
            | Self::Io(_) => None,
        }
    }
}

impl<'b> Bundle<'b> {
    /// Reads a bundle strictly, but for the content of its logs: that is read when it is asked for.
    pub fn read(bytes: &'b dyn ReadAt) -> Result<Self, BundleError> {
        if bytes.size() > BUNDLE_BYTES_MAX {
            return Err(BundleError::TooLarge);
        }
        let files = archive::read(bytes)?;
        for wanted in [MANIFEST, ABOUT, CHAIN] {
            if !files.contains_key(wanted) {
                return Err(BundleError::Lacks(wanted));
            }
        }
        let nothing = (MeshId([0; 32]), Timestamp(0));
        let mut bundle = Self { mesh: nothing.0, made: nothing.1, bytes, files };
        bundle.check_manifest()?;
        let about = bundle.content(ABOUT)?.and_then(|about| read_about(&about));
        (bundle.mesh, bundle.made) = about.ok_or(BundleError::About)?;
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
        let bytes = self.content(CHAIN)?.ok_or(BundleError::Lacks(CHAIN))?;
        let chain = match Chain::read(&bytes, Some(self.mesh)) {
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
            let is_known = [MANIFEST, ABOUT, CHAIN].contains(&name.as_str())
                || name
                    .strip_prefix(LOG)
                    .and_then(|rest| rest.split_once('/'))
                    .is_some_and(|(org, _)| org.parse().is_ok_and(|id: OrgId| id.to_string() == org));
            if !is_known {
                return Err(BundleError::Stranger(name.clone()));
            }
        }
        if self.logs().is_empty() { Err(BundleError::Lacks("log")) } else { Ok(()) }
    }

    /// No file but as the manifest says, and nothing more in the manifest.
    fn check_manifest(&self) -> Result<(), BundleError> {
        let lines = || {
            let others = self.files.iter().filter(|(name, _)| *name != MANIFEST);
            others.map(|(name, Member { sha256, .. })| (name, line(name, sha256)))
        };
        let found = self.content(MANIFEST)?.unwrap_or_default();
        if lines().map(|(_, line)| line).collect::<String>().as_bytes() == &*found {
            return Ok(());
        }
        let said: BTreeSet<&[u8]> = found.split_inclusive(|byte| *byte == b'\n').collect();
        let changed = lines().find(|(_, line)| !said.contains(line.as_bytes()));
        Err(BundleError::Changed(changed.map_or(MANIFEST, |(name, _)| name).to_owned()))
    }

    /// Bytes of a file, those that the manifest was compared with.
    fn content(&self, name: &str) -> Result<Option<Cow<'_, [u8]>>, FilesError> {
        let Some(Member { at, len, sha256 }) = self.files.get(name) else { return Ok(None) };
        // What is larger is no file of a log, whatever its end says.
        let is_of_log = name.starts_with(LOG);
        let read = if is_of_log { *len.min(&(FILE_BYTES_MAX + 1)) } else { *len };
        let fails = |why: &str| FilesError { path: name.to_owned(), source: why.into() };
        let bytes = self.bytes.read_at(*at, usize::try_from(read).map_err(|_| fails("too large"))?)?;
        if read == *len && <[u8; 32]>::from(Sha256::digest(&bytes)) != *sha256 {
            return Err(fails("it changed while it was audited"));
        }
        Ok(Some(bytes))
    }
}

/// The files of one log in a bundle.
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
        self.bundle.content(&format!("{}{path}", self.prefix))
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, FilesError> {
        let dir = format!("{}{dir}/", self.prefix);
        let behind = self.bundle.files.range(dir.clone()..).map(|(name, _)| name);
        let within = behind.map_while(|name| name.strip_prefix(dir.as_str()));
        Ok(within.filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }
}

/// A file that goes into a bundle.
struct Planned<'l> {
    len: u64,
    sha256: [u8; 32],
    from: Held<'l>,
}

/// Where its bytes are.
enum Held<'l> {
    /// In memory: what is small, or may be another one in a moment.
    Memory(Vec<u8>),
    /// In a log, where they are for ever.
    Log(&'l LogSource<'l>, TileAddress, Content),
}

impl<'l> Planned<'l> {
    fn new(bytes: &[u8], from: Held<'l>) -> Self {
        Self { len: bytes.len() as u64, sha256: Sha256::digest(bytes).into(), from }
    }

    fn kept(bytes: Vec<u8>) -> Self {
        Self { len: bytes.len() as u64, sha256: Sha256::digest(&bytes).into(), from: Held::Memory(bytes) }
    }
}

/// Writes a bundle of a chain and logs, as they are: it is not said to be clean.
///
/// The files of a log are read twice, for the manifest stands before them.
pub fn write_bundle(
    mut chain: Chain,
    logs: &[LogSource<'_>],
    made: Timestamp,
    out: &mut dyn Write,
) -> Result<(), BundleError> {
    for log in logs {
        for delegation in log::delegations(log)? {
            chain.take_delegation(&delegation);
        }
    }
    let envelopes = chain.in_order();
    let framed = write_frames(envelopes.iter().map(Vec::as_slice));
    let framed = framed.map_err(|error| BundleError::Chain(ChainError::Frames(error)))?;
    let about = format!("{FORMAT}\nmesh {}\nmade {}\n", chain.mesh(), made.0);
    let mut files = BTreeMap::from([
        (ABOUT.to_owned(), Planned::kept(about.into_bytes())),
        (CHAIN.to_owned(), Planned::kept(framed)),
    ]);
    for log in logs {
        plan_log(&chain, log, &mut files)?;
    }
    let manifest: String = files.iter().map(|(name, planned)| line(name, &planned.sha256)).collect();
    files.insert(MANIFEST.to_owned(), Planned::kept(manifest.into_bytes()));
    for (name, Planned { len, sha256, from }) in &files {
        archive::write_header(out, name, *len)?;
        match from {
            Held::Memory(bytes) => out.write_all(bytes)?,
            Held::Log(log, tile, what) => {
                let page = pages::read(log.files, *tile, what.path())?;
                let bytes = page.map(|page| page.cut(*what)).unwrap_or_default();
                if <[u8; 32]>::from(Sha256::digest(&bytes)) != *sha256 {
                    return Err(BundleError::Unstable(name.clone()));
                }
                out.write_all(&bytes)?;
            }
        }
        archive::write_padding(out, *len)?;
    }
    Ok(archive::write_end(out)?)
}

/// Finds the files of a log, each tile as wide as its largest checkpoint makes it.
fn plan_log<'l>(
    chain: &Chain,
    log: &'l LogSource<'l>,
    files: &mut BTreeMap<String, Planned<'l>>,
) -> Result<(), FilesError> {
    let prefix = format!("{LOG}{}/", log.org);
    let mut size = 0;
    for path in notes::paths(log.files)? {
        let Some(bytes) = log.files.read(&path)? else { continue };
        // What nobody believes goes in as well: it may be what the audit is about.
        if let Some(one) = notes::believe(&bytes, chain, &log.org) {
            size = size.max(one.verified.checkpoint.head.size);
        }
        files.insert(format!("{prefix}{path}"), Planned::kept(bytes.into_owned()));
    }
    for (tile, what) in pages::all(size) {
        if let Some(page) = pages::read(log.files, tile, what.path())? {
            let planned = Planned::new(&page.cut(what), Held::Log(log, tile, what));
            files.insert(format!("{prefix}{}", what.path()(&tile)), planned);
        }
    }
    Ok(())
}

/// What `sha256sum` prints for a file.
fn line(name: &str, sha256: &[u8; 32]) -> String {
    format!("{}  {name}\n", HEXLOWER.encode(sha256))
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
