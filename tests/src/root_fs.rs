//! The root file system of every container: a busybox of this machine.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process;

/// A static busybox; it knows its applets by the name it is called by.
const BUSYBOX: &str = "/bin/busybox";

/// Time that copying two megabytes may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// Writes the root file system as a tar archive into a directory, and returns its path.
pub(crate) fn write(dir: &Path) -> Result<PathBuf> {
    let root = dir.join("rootfs");
    for part in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
        let part = root.join(part);
        fs::create_dir_all(&part).with_context(|| format!("create {}", part.display()))?;
    }
    fs::copy(BUSYBOX, root.join("bin/busybox")).with_context(|| format!("copy {BUSYBOX}"))?;
    for applet in process::run(&[BUSYBOX, "--list"], None, DEADLINE)?.ok()?.lines() {
        if applet != "busybox" {
            let link = root.join("bin").join(applet);
            symlink("busybox", &link).with_context(|| format!("link {}", link.display()))?;
        }
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").context("write etc/passwd")?;
    fs::write(root.join("etc/group"), "root:x:0:\n").context("write etc/group")?;
    let tar = dir.join("rootfs.tar");
    pack(&root, &tar)?;
    fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
    Ok(tar)
}

/// Packs a directory into a tar archive.
pub(crate) fn pack(dir: &Path, tar: &Path) -> Result<()> {
    let line = ["tar".as_ref(), "--create".as_ref(), "--file".as_ref(), tar.as_os_str()];
    let tail = ["--directory".as_ref(), dir.as_os_str(), ".".as_ref()];
    process::run(&[&line[..], &tail[..]].concat(), None, DEADLINE)?.ok().map(drop)
}
