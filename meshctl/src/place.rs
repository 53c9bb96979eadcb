//! Where what is attached lives: a network namespace as it is typed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use clap::Args;
use meshd_api::{Attachment, Exit, Namespace};

use crate::failure::Failure;
use crate::interface::InterfaceName;
use crate::name::Name;

/// What the daemon calls those who attach with meshctl.
pub const RUNTIME: &str = "meshctl";

/// A network namespace, by its file or by a process in it.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Place {
    /// File of the network namespace, such as /run/netns/NAME; its path names the endpoint.
    #[arg(long, value_name = "PATH")]
    netns: Option<PathBuf>,
    /// A process in the network namespace.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
}

impl Place {
    /// Path of the namespace's file; it need not exist any more.
    pub fn path(&self) -> Result<String, Failure> {
        let path = match (&self.netns, self.pid) {
            (Some(netns), _) => std::path::absolute(netns).map_err(|error| {
                Failure::new(Exit::Usage, format!("{} is no path", netns.display())).because(&error)
            })?,
            (None, Some(pid)) => PathBuf::from(format!("/proc/{pid}/ns/net")),
            (None, None) => unreachable!("one of both is required"),
        };
        path.into_os_string().into_string().map_err(|path| {
            Failure::new(Exit::Usage, format!("the path {} is no UTF-8", PathBuf::from(path).display()))
        })
    }

    /// The namespace that is there now.
    pub fn namespace(&self) -> Result<Namespace, Failure> {
        let path = self.path()?;
        match fs::metadata(&path) {
            Ok(file) => Ok(Namespace { path, dev: file.dev(), ino: file.ino() }),
            Err(error) => {
                Err(Failure::new(Exit::Usage, format!("can't find the network namespace {path}"))
                    .because(&error))
            }
        }
    }

    /// What the daemon knows an interface in the namespace by; without its name, all of a network are meant.
    pub fn attachment(&self, network: &Name, ifname: Option<&InterfaceName>) -> Result<Attachment, Failure> {
        Ok(Attachment {
            runtime: RUNTIME.to_owned(),
            network: network.to_string(),
            container: self.path()?,
            ifname: ifname.map(ToString::to_string).unwrap_or_default(),
        })
    }
}
