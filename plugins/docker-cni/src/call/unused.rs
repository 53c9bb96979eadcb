//! Calls that need no work here: ports are published on Docker's own link, and nobody has to be discovered.

use serde::Deserialize;

use super::{Call, Done};
use crate::failure::Failure;
use crate::meshd::Asked;

/// Says which ports are to be published.
#[derive(Debug, Deserialize)]
pub struct ProgramConnectivity {}

/// Says that they are not any more.
#[derive(Debug, Deserialize)]
pub struct RevokeConnectivity {}

/// Tells of a host of a swarm.
#[derive(Debug, Deserialize)]
pub struct DiscoverNew {}

/// Tells that one is gone.
#[derive(Debug, Deserialize)]
pub struct DiscoverDelete {}

impl Call for ProgramConnectivity {
    type Reply = Done;
    const PATH: &'static str = "/NetworkDriver.ProgramExternalConnectivity";

    async fn run(self, _: &Asked) -> Result<Done, Failure> {
        Ok(Done {})
    }
}

impl Call for RevokeConnectivity {
    type Reply = Done;
    const PATH: &'static str = "/NetworkDriver.RevokeExternalConnectivity";

    async fn run(self, _: &Asked) -> Result<Done, Failure> {
        Ok(Done {})
    }
}

impl Call for DiscoverNew {
    type Reply = Done;
    const PATH: &'static str = "/NetworkDriver.DiscoverNew";

    async fn run(self, _: &Asked) -> Result<Done, Failure> {
        Ok(Done {})
    }
}

impl Call for DiscoverDelete {
    type Reply = Done;
    const PATH: &'static str = "/NetworkDriver.DiscoverDelete";

    async fn run(self, _: &Asked) -> Result<Done, Failure> {
        Ok(Done {})
    }
}
