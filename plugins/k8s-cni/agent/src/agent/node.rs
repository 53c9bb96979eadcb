//! This node's object: some clouds mark nodes as without a network until somebody says otherwise.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tracing::info;

/// The condition that says so.
const CONDITION: &str = "NetworkUnavailable";

/// This node in the cluster.
pub struct Node {
    api: Api<core::Node>,
    name: String,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Node {
    /// The node of this name.
    pub fn new(client: Client, name: String) -> Self {
        Self { api: Api::all(client), name }
    }

    /// Says that it has a network.
    pub async fn network_is_available(&self) -> Result<()> {
        let now = Timestamp::now().strftime("%FT%TZ").to_string();
        let condition = json!({
            "type": CONDITION, "status": "False", "reason": "MeshIsUp", "message": "meshd attaches pods",
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        });
        let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
        let patched = self.api.patch_status(&self.name, &PatchParams::default(), &patch).await;
        patched.context("say that the node has a network")?;
        info!("the node is not marked as without a network any more");
        Ok(())
    }
}

/// Whether the node is marked as one without a network.
pub fn is_without_network(node: &core::Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == CONDITION && condition.status == "True")
}
