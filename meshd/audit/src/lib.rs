//! Audits of the logs of a mesh, offline: from the files of a steward or from a bundle, by public keys alone.
//!
//! Everything here is pure: [`Files`] gives bytes by their path, the caller says what time it is. A [`Chain`] proves
//! from the mesh id who might sign. [`audit`] checks all that a log's directory has, its notes, leaves, tiles and the
//! records beside the leaves, and says it as a [`Report`]. A [`Bundle`] is all of that in one file. [`observed`] holds what was
//! seen on the wire against it.

#![forbid(unsafe_code)]

mod archive;
mod bundle;
mod chain;
mod entry;
mod files;
mod frames;
mod growth;
mod judgement;
mod log;
mod notes;
mod observed;
mod pages;
mod parallel;
mod report;
mod split;
mod table;
mod told;

pub use archive::{ArchiveError, WriteError};
pub use bundle::{BUNDLE_BYTES_MAX, Bundle, BundleError, BundleLog, write_bundle};
pub use chain::{Chain, ChainError};
pub use files::{FILE_BYTES_MAX, Files, FilesError, ReadAt};
pub use frames::{FrameError, read_frames, write_frames};
pub use growth::{Grown, Growth, LeafReport};
pub use log::{LogSource, Progress, Terms, audit};
pub use observed::{Journal, Logged, ObservedReport, ObservedReportKey, OtherMesh, Sighting, observed};
pub use report::{
    CertReport, CheckpointReport, Cosigned, FindingReport, KeyReport, LogReport, MemberAt, NodeReport,
    OrgReport, Report, Verdict,
};
pub use split::{Evidence, Held, SplitView, compare, gather};
