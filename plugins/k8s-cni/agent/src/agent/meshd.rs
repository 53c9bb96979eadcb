//! meshd on this node.

use anyhow::{Context, Result};
use meshd_api::{Client, ClientError, ErrorCode, SetPoliciesRequest};
use tracing::{info, warn};

use crate::cli::Target;
use crate::cluster::Cluster;
use crate::compile::{Compiled, WEIGHT_MAX, compile};

/// meshd, and what it was told last.
#[derive(Debug)]
pub struct Meshd {
    client: Client,
    network: String,
    node: String,
    faults: Vec<String>,
    /// What all policies might weigh when it took them last.
    weight_max: usize,
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
            weight_max: WEIGHT_MAX,
            told: None,
        }
    }

    /// Tells it what the cluster's policies come to.
    pub async fn tell(&mut self, cluster: &Cluster) -> Result<()> {
        let mut weight_max = self.weight_max.saturating_mul(2).min(WEIGHT_MAX);
        let mut refused = None;
        loop {
            let compiled = compile(cluster, &self.network, Some(&self.node), weight_max);
            let Compiled { request, weight, faults } = compiled;
            match self.client.call(&request).await {
                Ok(answer) => {
                    self.weight_max = weight_max;
                    self.show(cluster.faults().chain(faults).collect());
                    if self.told.as_ref() != Some(&request) {
                        let (policies, endpoints) = (request.policies.len(), answer.body.endpoints);
                        info!(policies, endpoints, "meshd knows the policies");
                        self.told = Some(request);
                    }
                    return Ok(());
                }
                // One tenant's policies must not keep those of all others from being heard.
                Err(error) if is_too_many(&error) && refused.as_ref() != Some(&request) => {
                    weight_max = weight / 2;
                    refused = Some(request);
                }
                Err(error) => return Err(error).context("tell meshd the policies"),
            }
        }
    }

    fn show(&mut self, faults: Vec<String>) {
        if faults != self.faults {
            for fault in &faults {
                warn!("a policy is stricter than written: {fault}");
            }
            self.faults = faults;
        }
    }
}

fn is_too_many(error: &ClientError) -> bool {
    matches!(error, ClientError::Api(error) if error.code == ErrorCode::TooMany)
}
