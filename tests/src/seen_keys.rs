//! What keys were ever seen in a mesh.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use crate::host::Host;

/// Remembers each tunnel key by node and number; one number is one key, and no key has two.
#[derive(Debug, Default)]
pub struct SeenKeys(BTreeMap<(String, u64), String>);

impl SeenKeys {
    /// Notes the keys that a host knows of; fails if one is used twice.
    pub fn note(&mut self, host: &Host) -> Result<()> {
        for key in host.keys()? {
            let node = key["node"].as_str().context("a node")?.to_owned();
            let (epoch, public) = (key["epoch"].as_u64().context("an epoch")?, key["public_key"].to_string());
            let used =
                self.0.iter().any(|(known, other)| *other == public && *known != (node.clone(), epoch));
            ensure!(!used, "{node} uses a key again under the number {epoch}");
            let known = self.0.entry((node.clone(), epoch)).or_insert_with(|| public.clone());
            ensure!(*known == public, "{node} has two keys with the number {epoch}");
        }
        Ok(())
    }

    /// Keys of all nodes.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}
