//! What is kept of the logs on disk: a note for each organisation, and evidence of those with two faces.

use std::fs;
use std::path::{Path, PathBuf};

use meshd_trust::log::{EVIDENCE_BYTES_MAX, Evidence, NOTE_BYTES_MAX, Note};
use meshd_wire::OrgId;

use crate::whole_file::{FileError, read, replace};

const CHECKPOINTS: &str = "checkpoints";
const EVIDENCE: &str = "evidence";

/// Both directories.
#[derive(Debug)]
pub(super) struct CheckpointFiles {
    dir: PathBuf,
}

impl CheckpointFiles {
    pub(super) fn new(state: &Path) -> Self {
        Self { dir: state.to_owned() }
    }

    /// Checkpoints that can be read; none of them is verified.
    pub(super) fn checkpoints(&self) -> Vec<(OrgId, Note)> {
        let read = |path: &Path| Note::from_bytes(&read(path, NOTE_BYTES_MAX).ok()?).ok();
        readable(&self.dir.join(CHECKPOINTS), read)
    }

    /// Evidence that can be read; none of it is verified.
    pub(super) fn evidence(&self) -> Vec<(OrgId, Evidence)> {
        let read = |path: &Path| Evidence::from_bytes(&read(path, EVIDENCE_BYTES_MAX).ok()?).ok();
        readable(&self.dir.join(EVIDENCE), read)
    }

    /// Keeps a checkpoint in the place of the one before.
    pub(super) fn put_checkpoint(&self, org: &OrgId, note: &Note) -> Result<(), FileError> {
        replace(&self.dir.join(CHECKPOINTS).join(org.to_string()), note.to_string().as_bytes())
    }

    /// Keeps evidence.
    pub(super) fn put_evidence(&self, org: &OrgId, evidence: &Evidence) -> Result<(), FileError> {
        replace(&self.evidence_path(org), evidence.to_string().as_bytes())
    }

    pub(super) fn evidence_path(&self, org: &OrgId) -> PathBuf {
        self.dir.join(EVIDENCE).join(org.to_string())
    }
}

/// Removes what was kept of the logs of a mesh that was left.
pub fn forget_checkpoints(state: &Path) -> Result<(), FileError> {
    for dir in [CHECKPOINTS, EVIDENCE].map(|name| state.join(name)) {
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(FileError::new("remove", &dir, error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn readable<T>(dir: &Path, read: impl Fn(&Path) -> Option<T>) -> Vec<(OrgId, T)> {
    let files = fs::read_dir(dir).into_iter().flatten().flatten().map(|file| file.path());
    let named = files.filter_map(|path| Some((path.file_name()?.to_str()?.parse().ok()?, path)));
    let mut held = Vec::new();
    for (org, path) in named {
        match read(&path) {
            Some(content) => held.push((org, content)),
            None => tracing::warn!(file = %path.display(), "a file is damaged, going on without it"),
        }
    }
    held
}
