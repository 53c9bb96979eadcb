//! A lab: hosts around an internet.

use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use crate::claim::Claim;
use crate::host::Host;
use crate::internet::Internet;
use crate::logs::Logs;
use crate::namespace::Namespace;

/// Hosts in a lab; their numbers are one byte of their addresses, and 0 and 255 stay free.
pub const HOSTS_MAX: usize = 254;

/// Runs a test in a lab of its own; the logs are kept if it fails or panics.
///
/// # Panics
///
/// Panics if the test fails, with the chain of its causes.
pub fn story(name: &str, test: impl FnOnce(&Lab) -> Result<()>) {
    let lab = Lab::new(name).unwrap_or_else(|error| panic!("{error:#}"));
    match panic::catch_unwind(AssertUnwindSafe(|| test(&lab))) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            lab.failed();
            drop(lab);
            panic!("{error:#}");
        }
        Err(cause) => {
            lab.failed();
            drop(lab);
            panic::resume_unwind(cause);
        }
    }
}

/// Says what is missing to run labs here.
pub fn possible() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("a lab needs root, to make network namespaces; run it as root");
    }
    if !Path::new("/dev/net/tun").exists() {
        bail!("a lab needs /dev/net/tun; run `modprobe tun`, or give the container this device");
    }
    Ok(())
}

/// Hosts around an internet; removed when dropped, with all that runs in it.
#[derive(Debug)]
pub struct Lab {
    // The order of removal is that of `drop`.
    claim: Claim,
    internet: Arc<Internet>,
    logs: Logs,
    hosts: Mutex<Vec<String>>,
    failed: AtomicBool,
}

impl Lab {
    /// Makes an empty lab; the name is that of its logs.
    pub fn new(name: &str) -> Result<Self> {
        possible()?;
        let claim = Claim::new().context("claim a lab")?;
        let logs = Logs::new(name, claim.id())?;
        let number = u32::from_str_radix(claim.id(), 16).context("read the lab id")?;
        let namespace = Namespace::create(&claim.namespace("inet"))?;
        let internet = Arc::new(Internet::new(namespace, number)?);
        Ok(Self { claim, internet, logs, hosts: Mutex::default(), failed: AtomicBool::new(false) })
    }

    /// Adds a host with a link to the internet.
    pub fn host(&self, name: &str) -> Result<Host> {
        let number = {
            let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            if hosts.len() >= HOSTS_MAX {
                bail!("a lab has at most {HOSTS_MAX} hosts");
            }
            if name == "inet" || hosts.iter().any(|host| host == name) {
                bail!("the lab has a host {name} already");
            }
            hosts.push(name.to_owned());
            u8::try_from(hosts.len()).context("number a host")?
        };
        Host::new(name, number, &self.claim, &self.logs, Arc::clone(&self.internet))
            .with_context(|| format!("make the host {name}"))
    }

    /// Adds several hosts.
    pub fn hosts<const N: usize>(&self, names: [&str; N]) -> Result<[Host; N]> {
        let hosts: Vec<Host> = names.iter().map(|name| self.host(name)).collect::<Result<_>>()?;
        match hosts.try_into() {
            Ok(hosts) => Ok(hosts),
            Err(_) => bail!("not as many hosts as names"),
        }
    }

    /// Adds a host with a file system and control groups of its own, for container runtimes.
    pub fn machine(&self, name: &str) -> Result<Host> {
        let host = self.host(name)?;
        host.boot().with_context(|| format!("make the machine {name}"))?;
        Ok(host)
    }

    /// Adds several machines.
    pub fn machines<const N: usize>(&self, names: [&str; N]) -> Result<[Host; N]> {
        let hosts = self.hosts(names)?;
        for host in &hosts {
            host.boot().with_context(|| format!("make the machine {}", host.name()))?;
        }
        Ok(hosts)
    }

    /// The network between the hosts.
    pub fn internet(&self) -> &Internet {
        &self.internet
    }

    /// Its id, unique on this machine.
    pub fn id(&self) -> &str {
        self.claim.id()
    }

    /// A directory that is removed with the lab.
    pub fn dir(&self) -> &Path {
        self.claim.dir()
    }

    /// Where its logs are.
    pub fn logs(&self) -> &Path {
        self.logs.dir()
    }

    /// Keeps the logs.
    pub fn failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.internet.stop();
        if let Err(error) = self.claim.release() {
            eprintln!("lab {}: not all was removed: {error:#}", self.claim.id());
        }
        if self.failed.load(Ordering::Relaxed) || std::thread::panicking() {
            self.logs.keep();
        } else if let Err(error) = self.logs.remove() {
            eprintln!("{error:#}");
        }
    }
}
