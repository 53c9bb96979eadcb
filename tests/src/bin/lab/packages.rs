//! Debian packages that building and testing need.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A program or file, and the package that brings it.
const NEEDED: [(&str, &str); 33] = [
    ("cc", "build-essential"),
    ("g++", "build-essential"),
    ("cmake", "cmake"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("iperf3", "iperf3"),
    ("tcpdump", "tcpdump"),
    ("ping", "iputils-ping"),
    ("etcd", "etcd-server"),
    ("etcdctl", "etcd-client"),
    ("curl", "curl"),
    ("dig", "bind9-dnsutils"),
    ("mount", "mount"),
    ("protoc", "protobuf-compiler"),
    ("/usr/include/google/protobuf/empty.proto", "libprotobuf-dev"),
    ("ps", "procps"),
    ("openssl", "openssl"),
    ("setpriv", "util-linux"),
    ("faketime", "faketime"),
    ("wg", "wireguard-tools"),
    ("wireguard-go", "wireguard-go"),
    ("/usr/bin/docker", "docker.io"),
    ("/usr/sbin/dockerd", "docker.io"),
    ("/usr/bin/docker-compose", "docker-compose"),
    ("/usr/bin/python3", "python3"),
    ("/usr/lib/python3/dist-packages/docker/__init__.py", "python3-docker"),
    ("/usr/lib/python3/dist-packages/cryptography/__init__.py", "python3-cryptography"),
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("/usr/lib/cni/portmap", "containernetworking-plugins"),
    ("podman", "podman"),
    ("/usr/share/doc/busybox-static/copyright", "busybox-static"),
];

/// Seconds to wait for another apt, such as the one of unattended upgrades.
const LOCK_WAIT: &str = "DPkg::Lock::Timeout=300";

/// Installs what is missing for building and testing, or names it.
pub fn install() -> Result<()> {
    install_all(&NEEDED)
}

/// Installs what is missing of these programs and files, or names it.
pub fn install_all(needed: &[(&str, &'static str)]) -> Result<()> {
    let mut missing = missing(needed);
    if missing.is_empty() {
        return Ok(());
    }
    missing.sort_unstable();
    missing.dedup();
    let words = missing.join(" ");
    if !nix::unistd::geteuid().is_root() {
        bail!("these packages are missing and only root may install them: {words}");
    }
    if present("apt-get").is_none() {
        bail!("these Debian packages are missing and there is no apt-get here: {words}");
    }
    println!("installing {words}");
    apt(&["update", "--quiet"])?;
    let mut line = vec!["install", "--quiet", "--yes", "--no-install-recommends"];
    line.extend(&missing);
    apt(&line)?;
    let left = self::missing(needed);
    if !left.is_empty() {
        bail!("still missing after the installation: {}", left.join(" "));
    }
    Ok(())
}

fn missing(needed: &[(&str, &'static str)]) -> Vec<&'static str> {
    needed.iter().filter(|(thing, _)| present(thing).is_none()).map(|(_, package)| *package).collect()
}

fn present(thing: &str) -> Option<()> {
    if thing.starts_with('/') {
        return Path::new(thing).exists().then_some(());
    }
    // Some paths of ordinary users lack the directories of system programs.
    let path = std::env::var("PATH").unwrap_or_default();
    let dirs = path.split(':').chain(["/usr/sbin", "/sbin"]);
    dirs.map(|dir| Path::new(dir).join(thing)).find(|file| file.exists()).map(drop)
}

fn apt(arguments: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .args(["-o", LOCK_WAIT])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("start apt-get")?;
    if !status.success() {
        bail!("`apt-get {}` ended with {status}", arguments.join(" "));
    }
    Ok(())
}
