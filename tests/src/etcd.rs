//! etcd on a host, as the registry of meshes.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::host::Host;
use crate::process::Process;
use crate::wait;

/// Time it gets until it answers.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// A running etcd; ends when dropped.
#[derive(Debug)]
pub struct Etcd<'lab> {
    host: &'lab Host,
    _process: Process,
}

impl<'lab> Etcd<'lab> {
    /// Starts it, open to everybody.
    pub fn start(host: &'lab Host) -> Result<Self> {
        let data = host.dir().join("etcd");
        let url = format!("http://{}:2379", host.addr4());
        let process = host.start(&[
            "etcd",
            "--data-dir",
            data.to_str().context("a path is no text")?,
            "--listen-client-urls",
            &format!("{url},http://127.0.0.1:2379"),
            "--advertise-client-urls",
            &url,
            "--listen-peer-urls",
            "http://127.0.0.1:2380",
        ])?;
        let etcd = Self { host, _process: process };
        wait::until(START_DEADLINE, "etcd answers", || etcd.ctl("endpoint health").is_ok())?;
        Ok(etcd)
    }

    /// What makes it the registry of a daemon.
    pub fn config(&self) -> String {
        format!("[registry]\nendpoints = [\"http://{}:2379\"]\n", self.host.addr4())
    }

    /// Calls its command line client, in a shell.
    pub fn ctl(&self, words: &str) -> Result<String> {
        self.host.run(&["sh", "-c", &format!("ETCDCTL_API=3 etcdctl {words}")])?.ok()
    }
}
