//! Honest inputs that a target begins with.

use std::path::PathBuf;
use std::{env, fs};

/// Names the directory that a target writes its seeds to before it reads them.
pub const DIR_VARIABLE: &str = "MESHD_FUZZ_SEEDS";

/// Writes the seeds of a target where the caller wants them; nothing if it wants none.
pub fn write(seeds: impl IntoIterator<Item = Vec<u8>>) {
    let Some(dir) = env::var_os(DIR_VARIABLE).map(PathBuf::from) else { return };
    for (number, seed) in seeds.into_iter().enumerate() {
        let path = dir.join(format!("{number:03}"));
        fs::write(&path, seed).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    }
}

/// Puts a selector before some bytes, for targets that choose by their first byte.
pub fn chosen(selector: usize, bytes: &[u8]) -> Vec<u8> {
    let mut seed = vec![u8::try_from(selector).expect("few choices")];
    seed.extend_from_slice(bytes);
    seed
}
