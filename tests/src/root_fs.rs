//! The root file system of every container: a busybox and an iperf3 of this machine.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process;

/// A static busybox; it knows its applets by the name it is called by.
const BUSYBOX: &str = "/bin/busybox";

/// What busybox has no applet for; it needs libraries.
const IPERF3: &str = "/usr/bin/iperf3";

/// Time that copying ten megabytes may take.
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
    fs::copy(IPERF3, root.join("bin/iperf3")).with_context(|| format!("copy {IPERF3}"))?;
    for library in libraries(&process::run(&["ldd", IPERF3], None, DEADLINE)?.ok()?) {
        let copy = root.join(library.trim_start_matches('/'));
        let dir = copy.parent().context("find the directory of a library")?;
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        fs::copy(library, &copy).with_context(|| format!("copy {library}"))?;
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

/// Paths in what ldd prints: `name => path (address)`, or the loader's path alone.
fn libraries(listed: &str) -> Vec<&str> {
    listed.split_whitespace().filter(|word| word.starts_with('/')).collect()
}

#[cfg(test)]
mod tests {
    use super::libraries;

    #[test]
    fn libraries_are_found_in_what_ldd_prints() {
        let listed =
            "\tlinux-vdso.so.1 (0x01)\n\tlibm.so.6 => /lib/x86/libm.so.6 (0x02)\n\t/lib64/ld.so.2 (0x03)\n";
        assert_eq!(libraries(listed), ["/lib/x86/libm.so.6", "/lib64/ld.so.2"]);
    }
}
