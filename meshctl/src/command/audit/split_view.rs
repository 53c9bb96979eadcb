//! `meshctl audit split-view`.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::Args;
use meshd_api::{Body, Exit};
use meshd_audit::{Bundle, Chain, Files, Held, ReadAt, Verdict, compare, gather};
use meshd_trust::log::{EVIDENCE_BYTES_MAX, Evidence};
use meshd_wire::{MeshId, OrgId};
use serde::{Deserialize, Serialize};

use super::source::{Opened, open_bundle, open_dir};
use super::{bad_bundle, unreadable};
use crate::failure::Failure;
use crate::file::{self, Readers};
use crate::log_dir;
use crate::output::Form;

/// What the name of every log begins with.
const LOG_NAME: &[u8] = b"meshd/";

/// Compare what several parties hold of one log, and write down evidence if it shows two faces.
///
/// Bundles and directories bring the keys and the leaves; single checkpoints may come from anybody.
#[derive(Debug, Args)]
pub struct SplitView {
    /// Bundles, directories of logs, and files with a checkpoint or with evidence.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Id of the mesh as you know it; without it, that of the first bundle or directory is taken.
    #[arg(long, value_name = "ID")]
    mesh: Option<MeshId>,
    /// File for the evidence, with a number behind its name if there is more than one; never overwritten.
    #[arg(short, long, value_name = "FILE", default_value = "evidence")]
    out: PathBuf,
}

/// What the comparison gave, as programs see it.
#[derive(Debug, Serialize, Deserialize)]
struct Compared {
    mesh: String,
    verdict: Verdict,
    /// Checkpoints that are signed by their logs.
    checkpoints: usize,
    /// Files without any.
    unsigned: Vec<PathBuf>,
    /// Sizes that nobody has the leaves of.
    unproven: Vec<u64>,
    evidence: Vec<PathBuf>,
}

impl Body for Compared {
    const SCHEMA: &'static str = "meshctl.split-view/1";
}

/// What a bundle or directory brings.
struct View {
    path: PathBuf,
    chain: Chain,
    logs: Vec<(OrgId, Log)>,
}

enum Log {
    Dir(log_dir::LogDir),
    Bundle(Rc<dyn ReadAt>),
}

impl SplitView {
    /// Compares, writes and prints.
    pub fn run(self, form: Form) -> Result<Verdict, Failure> {
        let mut views = Vec::new();
        let mut notes = Vec::new();
        for path in &self.files {
            match open(path, self.mesh)? {
                Some(view) => views.push(view),
                None => notes.push(path),
            }
        }
        let Some(mesh) = views.first().map(|view| view.chain.mesh()) else {
            return Err(Failure::new(Exit::Failed, "nothing here says by which keys checkpoints are signed")
                .with_hint("name a bundle or the directory of a log as well"));
        };
        if let Some(other) = views.iter().find(|view| view.chain.mesh() != mesh) {
            return Err(Failure::new(Exit::Failed, format!("{} is of another mesh", other.path.display())));
        }
        let mut compared = Compared {
            mesh: mesh.to_string(),
            verdict: Verdict::Clean,
            checkpoints: 0,
            unsigned: Vec::new(),
            unproven: Vec::new(),
            evidence: Vec::new(),
        };
        let mut held = Vec::new();
        for path in notes {
            for note in notes_of(path)? {
                match views.iter().find_map(|view| Held::of_note(&note, &view.chain)) {
                    Some(one) => held.push(one),
                    None if compared.unsigned.last() == Some(path) => {}
                    None => compared.unsigned.push(path.clone()),
                }
            }
        }
        self.compare(&views, held, &mut compared)?;
        let verdict = compared.verdict;
        form.own(compared, human)?;
        Ok(verdict)
    }

    fn compare(&self, views: &[View], notes: Vec<Held>, compared: &mut Compared) -> Result<(), Failure> {
        let mut orgs: Vec<OrgId> =
            views.iter().flat_map(|view| view.logs.iter().map(|(org, _)| *org)).collect();
        orgs.extend(notes.iter().map(|note| note.org));
        orgs.sort_unstable();
        orgs.dedup();
        for org in orgs {
            let mut held: Vec<Held> = notes.iter().filter(|note| note.org == org).cloned().collect();
            let logs: Vec<(&View, &Log)> = views
                .iter()
                .flat_map(|view| view.logs.iter().map(move |(of, log)| (of, view, log)))
                .filter(|(of, _, _)| **of == org)
                .map(|(_, view, log)| (view, log))
                .collect();
            let mut bundles: Vec<Bundle<'_>> = Vec::new();
            for (view, log) in &logs {
                if let Log::Bundle(bytes) = log {
                    let shown = view.path.display().to_string();
                    // It may have changed since it was opened.
                    bundles.push(Bundle::read(&**bytes).map_err(|error| bad_bundle(&shown, &error))?);
                }
            }
            let within: Vec<_> = bundles.iter().flat_map(Bundle::logs).collect();
            let of_bundles = within.iter().filter(|log| log.org() == org).map(|log| log as &dyn Files);
            let of_dirs = logs.iter().filter_map(|(_, log)| match log {
                Log::Dir(dir) => Some(dir as &dyn Files),
                Log::Bundle(_) => None,
            });
            let sources: Vec<&dyn Files> = of_dirs.chain(of_bundles).collect();
            for source in &sources {
                for (view, _) in &logs {
                    held.extend(gather(*source, &view.chain, org).map_err(|error| unreadable(&error))?);
                }
            }
            let view = compare(&held, &sources).map_err(|error| unreadable(&error))?;
            compared.checkpoints += view.notes;
            compared.unproven.extend(view.unproven);
            for evidence in view.evidence {
                let path = match compared.evidence.len() {
                    0 => self.out.clone(),
                    more => self.out.with_extension((more + 1).to_string()),
                };
                file::write_new(&path, evidence.to_text().as_bytes(), Readers::All)?;
                compared.evidence.push(path);
            }
        }
        compared.verdict = match () {
            () if !compared.evidence.is_empty() => Verdict::Tampering,
            () if !compared.unproven.is_empty() || !compared.unsigned.is_empty() => Verdict::Incomplete,
            () => Verdict::Clean,
        };
        Ok(())
    }
}

/// The checkpoints in a file: one, or the two of evidence.
fn notes_of(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let unreadable = || Failure::new(Exit::Failed, format!("can't read {}", path.display()));
    let bytes =
        log_dir::bounded(path, EVIDENCE_BYTES_MAX as u64).map_err(|error| unreadable().because(&error))?;
    if !Evidence::is_meant(&bytes) {
        return Ok(vec![bytes]);
    }
    let evidence = Evidence::from_bytes(&bytes).map_err(|error| unreadable().because(&error))?;
    Ok(evidence.notes.iter().map(|note| note.to_string().into_bytes()).collect())
}

/// Opens a bundle or a directory; none for any other file.
fn open(path: &Path, mesh: Option<MeshId>) -> Result<Option<View>, Failure> {
    let is_dir = fs::metadata(path)
        .map_err(|error| {
            Failure::new(Exit::Failed, format!("can't read {}", path.display())).because(&error)
        })?
        .is_dir();
    if is_dir {
        let Opened { chain, org, files } = open_dir(path, mesh)?;
        return Ok(Some(View { path: path.to_owned(), chain, logs: vec![(org, Log::Dir(files))] }));
    }
    let bytes: Rc<dyn ReadAt> = open_bundle(path)?.into();
    let begins = |with: &[u8]| bytes.read_at(0, with.len()).is_ok_and(|first| *first == *with);
    // A checkpoint begins with the name of its log, evidence with its first line, a bundle with its manifest.
    if begins(LOG_NAME) || begins(Evidence::FIRST_LINE.as_bytes()) {
        return Ok(None);
    }
    let shown = path.display().to_string();
    let bundle = Bundle::read(&*bytes).map_err(|error| bad_bundle(&shown, &error))?;
    let chain = bundle.chain(mesh).map_err(|error| bad_bundle(&shown, &error))?;
    let orgs: Vec<OrgId> = bundle.logs().iter().map(meshd_audit::BundleLog::org).collect();
    let logs = orgs.into_iter().map(|org| (org, Log::Bundle(Rc::clone(&bytes)))).collect();
    Ok(Some(View { path: path.to_owned(), chain, logs }))
}

fn human(compared: &Compared) -> String {
    let mut lines = vec![format!("{} checkpoints compared", compared.checkpoints)];
    lines.extend(
        compared.unsigned.iter().map(|path| format!("{} is signed by no log of this mesh", path.display())),
    );
    for size in &compared.unproven {
        lines.push(format!("nobody has the leaves of the checkpoint of {size} leaves"));
    }
    for path in &compared.evidence {
        lines.push(format!("two signed checkpoints exclude each other: evidence in {}", path.display()));
    }
    lines.push(format!("verdict: {}", compared.verdict.word()));
    lines.join("\n")
}
