//! Objects of a cluster out of files, YAML or JSON, as `kubectl get --output json` writes them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cluster::{Cluster, Name, Pod, Policy};

/// Namespace of objects that name none.
const NAMESPACE_DEFAULT: &str = "default";

/// Label with its own name that API servers give to each namespace.
const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Lists in lists in a file; one is what anybody writes.
const DEPTH_MAX: usize = 4;

/// Reports objects that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// Not JSON.
    #[error("the text starts as JSON but is none")]
    Json(#[source] serde_json::Error),
    /// Not YAML.
    #[error("the text is no YAML")]
    Yaml(#[source] Box<serde_saphyr::Error>),
    /// No object of Kubernetes.
    #[error("{0}")]
    Kind(String),
    /// An object without the shape of its kind.
    #[error("a {kind} that is none")]
    Shape {
        /// What it says it is.
        kind: String,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
}

/// Reads the objects of a text into a cluster. Kinds that no policy depends on are left out.
pub fn read(text: &str, cluster: &mut Cluster) -> Result<(), ObjectsError> {
    for document in documents(text)? {
        object(document, None, DEPTH_MAX, cluster)?;
    }
    Ok(())
}

/// Makes up the namespaces that no object describes, as an API server would.
pub fn complete_namespaces(cluster: &mut Cluster) {
    let used = cluster.pods.keys().chain(cluster.policies.keys());
    let used: Vec<String> = used.map(|name| name.namespace.clone()).collect();
    for name in used {
        let labels = BTreeMap::from([(NAMESPACE_NAME_LABEL.to_owned(), name.clone())]);
        cluster.namespaces.entry(Name { namespace: String::new(), name }).or_insert(labels);
    }
}

fn documents(text: &str) -> Result<Vec<Value>, ObjectsError> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map(|one| vec![one]).map_err(ObjectsError::Json);
    }
    let documents = serde_saphyr::from_multiple(text);
    documents.map_err(|error| ObjectsError::Yaml(Box::new(error)))
}

fn object(
    value: Value,
    kind_of_list: Option<&str>,
    depth_left: usize,
    cluster: &mut Cluster,
) -> Result<(), ObjectsError> {
    let Value::Object(mut fields) = value else {
        // A document between two separators may be empty.
        return if value.is_null() {
            Ok(())
        } else {
            Err(ObjectsError::Kind(format!("{value} is no object")))
        };
    };
    let kind = fields.get("kind").and_then(Value::as_str).or(kind_of_list).map(str::to_owned);
    let kind = kind.ok_or_else(|| ObjectsError::Kind("an object without a kind".to_owned()))?;
    if let (Some(of), Some(Value::Array(items))) = (kind.strip_suffix("List"), fields.remove("items")) {
        let depth_left = depth_left.checked_sub(1);
        let depth_left =
            depth_left.ok_or_else(|| ObjectsError::Kind("lists in lists in lists".to_owned()))?;
        let of = (!of.is_empty()).then_some(of);
        return items.into_iter().try_for_each(|item| object(item, of, depth_left, cluster));
    }
    let value = Value::Object(fields);
    match kind.as_str() {
        "Namespace" => {
            let namespace: core::Namespace = shaped(&kind, value)?;
            let name = Name { namespace: String::new(), name: own_name(&kind, &namespace.metadata)? };
            let mut labels = namespace.metadata.labels.unwrap_or_default();
            labels.entry(NAMESPACE_NAME_LABEL.to_owned()).or_insert_with(|| name.name.clone());
            cluster.namespaces.insert(name, labels);
        }
        "Pod" => {
            let pod: core::Pod = shaped(&kind, value)?;
            cluster.pods.insert(name(&kind, &pod.metadata)?, Pod::read(&pod));
        }
        "NetworkPolicy" => {
            let policy: NetworkPolicy = shaped(&kind, value)?;
            cluster.policies.insert(name(&kind, &policy.metadata)?, Policy::read(&policy));
        }
        _ => {}
    }
    Ok(())
}

fn shaped<T: DeserializeOwned>(kind: &str, value: Value) -> Result<T, ObjectsError> {
    serde_json::from_value(value).map_err(|source| ObjectsError::Shape { kind: kind.to_owned(), source })
}

fn name(kind: &str, metadata: &ObjectMeta) -> Result<Name, ObjectsError> {
    let namespace = metadata.namespace.clone().unwrap_or_else(|| NAMESPACE_DEFAULT.to_owned());
    Ok(Name { namespace, name: own_name(kind, metadata)? })
}

fn own_name(kind: &str, metadata: &ObjectMeta) -> Result<String, ObjectsError> {
    metadata.name.clone().ok_or_else(|| ObjectsError::Kind(format!("a {kind} without a name")))
}
