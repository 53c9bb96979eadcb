//! The life of tunnel keys: each is used once, goes on after a crash at any moment, and is nowhere when it is over.

mod crashes;
mod file;
mod retired;

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use mesh_lab::Host;
use serde_json::Value;

/// Remembers each key by node and number; one number is one key.
#[derive(Default)]
struct Seen(BTreeMap<(String, u64), String>);

impl Seen {
    fn note(&mut self, host: &Host) -> Result<()> {
        let answer = host.ctl(&["key", "list"])?.ok()?;
        for key in answer["keys"].as_array().context("keys")? {
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
    fn count(&self) -> usize {
        self.0.len()
    }
}

/// The key that a node is known to use.
fn epoch(host: &Host, name: &str) -> Result<u64> {
    let answer = host.ctl(&["key", "list"])?.ok()?;
    let keys = answer["keys"].as_array().context("keys")?;
    let is_current = |key: &&Value| key["node"] == name && key["role"] == "current";
    keys.iter()
        .find(is_current)
        .and_then(|key| key["epoch"].as_u64())
        .with_context(|| format!("a key of {name}"))
}

/// A number from the environment, where the few of a usual run are not enough.
fn wanted(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().and_then(|number| number.parse().ok()).unwrap_or(usual)
}
