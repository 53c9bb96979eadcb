//! Everything that is watched, as one stream of changes.

use std::fmt::Debug;

use futures_util::stream::{BoxStream, SelectAll, select_all};
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Client, Resource};
use meshd_api::Labels;
use serde::de::DeserializeOwned;

use super::kept::{Kept, reduced};
use super::node::is_without_network;
use crate::cluster::{Cluster, Name, Pod, Policy};

/// What changed, as far as it counts.
#[derive(Debug)]
pub enum Change {
    /// A namespace: its labels.
    Namespace(Event<(Name, Labels)>),
    /// A pod.
    Pod(Event<(Name, Pod)>),
    /// A network policy.
    Policy(Event<(Name, Policy)>),
    /// This node: whether it is said to have no network.
    Node(Event<(Name, bool)>),
}

/// Changes from now on, after all that is there; ends never.
pub fn changes(client: &Client, node: &str) -> SelectAll<BoxStream<'static, watcher::Result<Change>>> {
    let all = Config::default;
    let own = Config::default().fields(&format!("metadata.name={node}"));
    let labels = |namespace: &Namespace| namespace.metadata.labels.clone().unwrap_or_default();
    select_all([
        stream(client, all(), labels, Change::Namespace),
        stream(client, all(), Pod::read, Change::Pod),
        stream(client, all(), Policy::read, Change::Policy),
        stream(client, own, is_without_network, Change::Node),
    ])
}

fn stream<K, T: 'static>(
    client: &Client,
    config: Config,
    read: fn(&K) -> T,
    change: fn(Event<(Name, T)>) -> Change,
) -> BoxStream<'static, watcher::Result<Change>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let events = watcher(Api::<K>::all(client.clone()), config).default_backoff();
    events.map_ok(move |event| change(reduced(event, read))).boxed()
}

/// The cluster as it was seen.
#[derive(Debug, Default)]
pub struct Seen {
    namespaces: Kept<Labels>,
    pods: Kept<Pod>,
    policies: Kept<Policy>,
    /// Whether a node is said to have no network.
    nodes: Kept<bool>,
}

impl Seen {
    /// Takes a change; true if anything that counts is different now.
    pub fn take(&mut self, change: Change) -> bool {
        match change {
            Change::Namespace(event) => self.namespaces.take(event),
            Change::Pod(event) => self.pods.take(event),
            Change::Policy(event) => self.policies.take(event),
            Change::Node(event) => self.nodes.take(event),
        }
    }

    /// Whether all of it has been seen.
    pub fn is_whole(&self) -> bool {
        self.namespaces.is_whole()
            && self.pods.is_whole()
            && self.policies.is_whole()
            && self.nodes.is_whole()
    }

    /// What decides who may talk to whom.
    pub fn cluster(&self) -> Cluster {
        Cluster {
            namespaces: self.namespaces.objects().clone(),
            pods: self.pods.objects().clone(),
            policies: self.policies.objects().clone(),
        }
    }

    /// Whether somebody marked this node as one without a network.
    pub fn network_is_unavailable(&self) -> bool {
        self.nodes.objects().values().any(|is_without| *is_without)
    }
}
