//! meshd on this node.

use anyhow::{Context, Result};
use meshd_api::{Client, SetPoliciesRequest};
use tracing::{info, warn};

use crate::cli::Target;
use crate::cluster::Cluster;
use crate::compile::compile;

/// meshd, and what it was told last.
#[derive(Debug)]
pub struct Meshd {
    client: Client,
    network: String,
    node: String,
    faults: Vec<String>,
    told: Option<SetPoliciesRequest>,
}

impl Meshd {
    /// meshd behind a socket, for the pods of a node.
    pub fn new(target: &Target, node: String) -> Self {
        Self {
            client: Client::new(&target.socket),
            network: target.network.clone(),
            node,
            faults: Vec::new(),
            told: None,
        }
    }

    /// Tells it what the cluster's policies come to.
    pub async fn tell(&mut self, cluster: &Cluster) -> Result<()> {
        let faults: Vec<String> = cluster.faults().collect();
        if faults != self.faults {
            for fault in &faults {
                warn!("a policy is stricter than written: {fault}");
            }
            self.faults = faults;
        }
        let request = compile(cluster, &self.network, Some(&self.node));
        let answer = self.client.call(&request).await.context("tell meshd the policies")?;
        if self.told.as_ref() != Some(&request) {
            let (policies, endpoints) = (request.policies.len(), answer.body.endpoints);
            info!(policies, endpoints, "meshd knows the policies");
            self.told = Some(request);
        }
        Ok(())
    }
}
