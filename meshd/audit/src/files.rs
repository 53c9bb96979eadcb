//! Where the files of a log are read from.

use std::borrow::Cow;
use std::error::Error;

/// Gives files by their path, with `/` between its parts: a directory, or what a bundle has of one.
pub trait Files {
    /// Bytes of a file; none if there is no such file.
    fn read(&self, path: &str) -> Result<Option<Cow<'_, [u8]>>, FilesError>;

    /// Names of the files directly in a directory, in any order; none if there is no such directory.
    fn list(&self, dir: &str) -> Result<Vec<String>, FilesError>;
}

/// Reports a file that is there and can't be read.
#[derive(Debug, thiserror::Error)]
#[error("read {path}")]
pub struct FilesError {
    /// The file.
    pub path: String,
    /// Why.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}
