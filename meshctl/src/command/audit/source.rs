//! Which log is audited, and on which terms.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;

use clap::Args;
use meshd_api::Exit;
use meshd_audit::{Bundle, BundleLog, Chain, Files, LogSource, ReadAt, Report, Terms, audit};
use meshd_trust::log::{LogOrigin, Note};
use meshd_wire::{MeshId, OrgId, Timestamp};

use super::{bad_bundle, unreadable};
use crate::bundle_file;
use crate::duration::Typed;
use crate::failure::Failure;
use crate::log_dir::{self, LogDir};
use crate::progress::Progress;
use crate::time::{self, Moment};

/// Where the daemon keeps its state unless told otherwise.
const STATE_DIR: &str = "/var/lib/meshd";
/// Largest chain: 64 organisations with 64 roots and 64 delegations each stay below.
const CHAIN_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Which log is audited.
#[derive(Debug, Args)]
pub struct Source {
    /// Directory of a log, with the file `chain`; the steward's log on this host if neither this nor a bundle is given.
    #[arg(long, value_name = "DIR", conflicts_with = "bundle")]
    log: Option<PathBuf>,
    /// Bundle made by `meshctl audit bundle`.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// State directory of the daemon, for the steward's log on this host.
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    state_dir: PathBuf,
    /// Id of the mesh as you know it; without it, whatever mesh the log says is taken.
    #[arg(long, value_name = "ID")]
    mesh: Option<MeshId>,
    #[command(flatten)]
    pub terms: Period,
}

/// On which terms.
#[derive(Debug, Args)]
pub struct Period {
    /// Time of the audit, in UTC; now if it is not given, and for a bundle when it was made.
    #[arg(long, value_name = "TIME")]
    at: Option<Moment>,
    /// Period in which every tunnel key is to be replaced.
    #[arg(long, value_name = "SPAN", default_value = "12h")]
    period: Typed,
}

impl Period {
    pub fn terms(&self, made: Option<Timestamp>, is_compared: bool) -> Terms {
        let at = self.at.map(|at| Timestamp(at.0)).or(made).unwrap_or_else(time::now);
        let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Terms { at, period_s: self.period.0.as_secs(), is_compared, threads }
    }
}

impl Source {
    /// Audits it.
    pub fn report(&self) -> Result<Report, Failure> {
        match &self.bundle {
            Some(file) => audit_bundle(file, self.mesh, &self.terms),
            None => {
                let Opened { chain, org, files } = self.open()?;
                let log = LogSource { org, files: &files, sealed: None };
                watched(chain, &[log], &self.terms.terms(None, self.mesh.is_some()))
            }
        }
    }

    /// Opens a directory.
    pub fn open(&self) -> Result<Opened, Failure> {
        if self.bundle.is_some() {
            return Err(Failure::new(Exit::Failed, "this needs the directory of a log, not a bundle"));
        }
        let dir = self.log.clone().unwrap_or_else(|| self.state_dir.join("steward/log"));
        open_dir(&dir, self.mesh)
    }

    /// Terms of the audit of a directory.
    pub fn directory_terms(&self) -> Terms {
        self.terms.terms(None, self.mesh.is_some())
    }
}

/// The directory of a log with its chain.
pub struct Opened {
    /// Who might sign.
    pub chain: Chain,
    /// Whose log it is.
    pub org: OrgId,
    /// Its files.
    pub files: LogDir,
}

/// Opens a directory: its chain, and whose log it says it is.
pub fn open_dir(dir: &Path, mesh: Option<MeshId>) -> Result<Opened, Failure> {
    let shown = dir.display();
    let bytes = log_dir::bounded(&dir.join("chain"), CHAIN_BYTES_MAX).map_err(|error| {
        Failure::new(Exit::Failed, format!("can't read the chain of the log in {shown}"))
            .because(&error)
            .with_hint("name the directory of a log with --log, or a bundle with --bundle")
    })?;
    let chain = Chain::read(&bytes, mesh).map_err(|error| {
        Failure::new(Exit::Failed, format!("can't verify the log in {shown}")).because(&error)
    })?;
    let files = LogDir::new(dir);
    let org = whose(&files, &chain).ok_or_else(|| {
        Failure::new(Exit::Failed, format!("{shown} does not say whose log it is"))
            .with_hint("its file `checkpoint` is missing or damaged, and so are all in `checkpoints`")
            .or_code(4)
    })?;
    Ok(Opened { chain, org, files })
}

/// Audits a bundle.
pub fn audit_bundle(file: &Path, mesh: Option<MeshId>, period: &Period) -> Result<Report, Failure> {
    let bytes = open_bundle(file)?;
    let terms = |made| period.terms(Some(made), mesh.is_some());
    audit_bytes(&file.display().to_string(), &*bytes, mesh, terms)
}

/// Audits the bytes of a bundle, on terms that may depend on when it was made.
pub fn audit_bytes(
    shown: &str,
    bytes: &dyn ReadAt,
    mesh: Option<MeshId>,
    terms: impl FnOnce(Timestamp) -> Terms,
) -> Result<Report, Failure> {
    let bundle = Bundle::read(bytes).map_err(|error| bad_bundle(shown, &error))?;
    let chain = bundle.chain(mesh).map_err(|error| bad_bundle(shown, &error))?;
    let logs = bundle.logs();
    let sources: Vec<LogSource<'_>> = logs.iter().map(BundleLog::source).collect();
    watched(chain, &sources, &terms(bundle.made()))
}

/// Audits, and tells a terminal how far it is.
fn watched(chain: Chain, logs: &[LogSource<'_>], terms: &Terms) -> Result<Report, Failure> {
    let mut progress = Progress::new();
    audit(chain, logs, terms, &mut |read, all| progress.show(read, all)).map_err(|error| unreadable(&error))
}

/// Opens a bundle's file.
pub fn open_bundle(file: &Path) -> Result<Box<dyn ReadAt>, Failure> {
    bundle_file::open(file)
        .map_err(|error| Failure::new(Exit::Failed, format!("can't read {}", file.display())).because(&error))
}

/// The organisation that a note of the directory names; whether it signed is another question. A mesh of one
/// organisation leaves no doubt.
fn whose(files: &LogDir, chain: &Chain) -> Option<OrgId> {
    let further = files.list("checkpoints").unwrap_or_default();
    let paths = std::iter::once("checkpoint".to_owned())
        .chain(further.into_iter().map(|name| format!("checkpoints/{name}")));
    let mut named = paths.filter_map(|path| {
        let note = Note::from_bytes(&files.read(&path).ok()??).ok()?;
        let origin: LogOrigin = note.text().lines().next()?.parse().ok()?;
        Some(origin.org)
    });
    let mut orgs = chain.orgs().map(|(org, _)| org);
    let only = orgs.next().filter(|_| orgs.next().is_none());
    let known: Vec<OrgId> = chain.orgs().map(|(org, _)| org).collect();
    named.find(|org| known.contains(org)).or(only)
}
