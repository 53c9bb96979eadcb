//! What this plugin is. Docker asks again and again, also before meshd is up.

use serde::Deserialize;
use serde_json::{Value, json};

use super::Call;
use crate::failure::Failure;
use crate::meshd::Asked;

/// Where addresses come from, in networks of one host and of a swarm.
pub const ADDRESS_SPACES: [&str; 2] = ["meshlocal", "meshglobal"];

/// Asks which kinds of plugin it is.
#[derive(Debug, Deserialize)]
pub struct Activate {}

impl Call for Activate {
    type Reply = Value;
    const PATH: &'static str = "/Plugin.Activate";

    async fn run(self, _: &Asked) -> Result<Value, Failure> {
        Ok(json!({"Implements": ["NetworkDriver", "IpamDriver"]}))
    }
}

/// Asks how far its networks reach.
#[derive(Debug, Deserialize)]
pub struct NetworkCapabilities {}

impl Call for NetworkCapabilities {
    type Reply = Value;
    const PATH: &'static str = "/NetworkDriver.GetCapabilities";

    /// Local, because a network of scope global can be made in a swarm only: the same pool makes networks of several
    /// hosts one.
    async fn run(self, _: &Asked) -> Result<Value, Failure> {
        Ok(json!({"Scope": "local", "ConnectivityScope": "global"}))
    }
}

/// Asks what it must be told to choose addresses.
#[derive(Debug, Deserialize)]
pub struct IpamCapabilities {}

impl Call for IpamCapabilities {
    type Reply = Value;
    const PATH: &'static str = "/IpamDriver.GetCapabilities";

    async fn run(self, _: &Asked) -> Result<Value, Failure> {
        Ok(json!({"RequiresMACAddress": false, "RequiresRequestReplay": false}))
    }
}

/// Asks for the names of its address spaces.
#[derive(Debug, Deserialize)]
pub struct AddressSpaces {}

impl Call for AddressSpaces {
    type Reply = Value;
    const PATH: &'static str = "/IpamDriver.GetDefaultAddressSpaces";

    async fn run(self, _: &Asked) -> Result<Value, Failure> {
        let [local, global] = ADDRESS_SPACES;
        Ok(json!({"LocalDefaultAddressSpace": local, "GlobalDefaultAddressSpace": global}))
    }
}
