//! The image that every container of a test is made of, packed so that all runtimes load the same file.
//!
//! The archive is an OCI layout that also holds the `manifest.json` of `docker save`, which older dockerds want. It is
//! written here, so nothing has to be fetched.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::root_fs;

/// Its name, without a word in which runtimes differ.
pub const IMAGE: &str = "docker.io/library/lab:1";

/// What a container does if it is told nothing else.
const COMMAND: [&str; 2] = ["sleep", "infinity"];

/// Writes the archive into a directory, and returns its path.
pub(crate) fn write(dir: &Path) -> Result<PathBuf> {
    let tar = dir.join("image.tar");
    let layout = dir.join("image");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| format!("create {}", blobs.display()))?;
    let layer = fs::read(root_fs::write(dir)?).context("read the root file system")?;
    let layer = Blob::write(&blobs, "application/vnd.oci.image.layer.v1.tar", &layer)?;
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        // A shell or a sleep without an init ignores the usual signal, and a runtime would wait for ten seconds.
        "config": { "Cmd": COMMAND, "Env": ["PATH=/bin"], "StopSignal": "SIGKILL" },
        "rootfs": { "type": "layers", "diff_ids": [layer.digest()] },
        "history": [{ "created_by": "mesh-lab" }],
    });
    let config = Blob::write(&blobs, "application/vnd.oci.image.config.v1+json", &bytes(&config))?;
    let manifest =
        json!({ "schemaVersion": 2, "config": config.descriptor(), "layers": [layer.descriptor()] });
    let manifest = Blob::write(&blobs, "application/vnd.oci.image.manifest.v1+json", &bytes(&manifest))?;
    let mut named = manifest.descriptor();
    named["annotations"] =
        json!({ "io.containerd.image.name": IMAGE, "org.opencontainers.image.ref.name": IMAGE });
    for (name, content) in [
        ("oci-layout", json!({ "imageLayoutVersion": "1.0.0" })),
        ("index.json", json!({ "schemaVersion": 2, "manifests": [named] })),
        (
            "manifest.json",
            json!([{ "Config": config.path(), "RepoTags": [IMAGE], "Layers": [layer.path()] }]),
        ),
    ] {
        let path = layout.join(name);
        fs::write(&path, bytes(&content)).with_context(|| format!("write {}", path.display()))?;
    }
    root_fs::pack(&layout, &tar)?;
    fs::remove_dir_all(&layout).with_context(|| format!("remove {}", layout.display()))?;
    Ok(tar)
}

/// A piece of the image, named by its digest.
struct Blob {
    media_type: &'static str,
    hex: String,
    size: usize,
}

impl Blob {
    fn write(dir: &Path, media_type: &'static str, content: &[u8]) -> Result<Self> {
        let hex = HEXLOWER.encode(&Sha256::digest(content));
        let path = dir.join(&hex);
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        Ok(Self { media_type, hex, size: content.len() })
    }

    fn digest(&self) -> String {
        format!("sha256:{}", self.hex)
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.hex)
    }

    fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest(), "size": self.size })
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}
