//! What of a cluster decides who may talk to whom. Read once from the API's objects, never judged again.

mod pod;
mod policy;
mod port;
mod rule;
mod selector;

pub use pod::Pod;
pub use policy::Policy;
pub use port::Port;
pub use rule::{Block, Peer, Rule};

use std::collections::{BTreeMap, BTreeSet};

use meshd_api::Labels;

/// What names an object: its namespace, empty for those that have none, and its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The namespace.
    pub namespace: String,
    /// The name in it.
    pub name: String,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            return f.write_str(&self.name);
        }
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Objects by name.
pub type Named<T> = BTreeMap<Name, T>;

/// Namespaces, pods and policies.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    /// Labels of each namespace.
    pub namespaces: Named<Labels>,
    /// The pods.
    pub pods: Named<Pod>,
    /// The network policies.
    pub policies: Named<Policy>,
}

impl Cluster {
    /// Labels of a namespace, if it is known.
    pub fn namespace(&self, name: &str) -> Option<&Labels> {
        self.namespaces.get(&Name { namespace: String::new(), name: name.to_owned() })
    }

    /// Every namespace that is known, or that a policy names.
    pub fn namespace_names(&self) -> BTreeSet<&str> {
        let known = self.namespaces.keys().map(|name| name.name.as_str());
        known.chain(self.policies.keys().map(|name| name.namespace.as_str())).collect()
    }

    /// The policies of a namespace.
    pub fn policies_of<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = (&'a Name, &'a Policy)> {
        of(&self.policies, namespace)
    }

    /// The pods of a namespace.
    pub fn pods_of<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = (&'a Name, &'a Pod)> {
        of(&self.pods, namespace)
    }

    /// What could not be read, each with the name of its policy.
    pub fn faults(&self) -> impl Iterator<Item = String> {
        self.policies
            .iter()
            .flat_map(|(name, policy)| policy.faults.iter().map(move |fault| format!("{name}: {fault}")))
    }
}

/// The objects of one namespace.
fn of<'a, T>(objects: &'a Named<T>, namespace: &'a str) -> impl Iterator<Item = (&'a Name, &'a T)> {
    let first = Name { namespace: namespace.to_owned(), name: String::new() };
    let rest = objects.range(first..);
    rest.take_while(move |(name, _)| name.namespace == namespace)
}
