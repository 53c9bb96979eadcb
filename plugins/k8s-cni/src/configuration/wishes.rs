//! What the runtime wishes for one container.

mod dns;

pub use dns::Dns;

use std::net::IpAddr;

use meshd_api::Labels;
use serde_json::Value;

use crate::arguments::{Arguments, address, addresses};
use crate::document::Object;
use crate::environment::Place;
use crate::failure::{Code, Failure};

/// Where runtimes of pods put their annotations.
const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

/// Annotation with addresses, commas between.
const ADDRESSES_ANNOTATION: &str = "meshd.ips";

/// What stands in front of annotations that become labels.
const LABEL_ANNOTATION_PREFIX: &str = "meshd.label.";

/// What stands in front of labels that only the runtime may say.
const RUNTIME_LABEL_PREFIX: &str = "k8s.";

/// Longest part of a name in DNS, and of a label.
const PART_BYTES_MAX: usize = 63;

/// Longest name of an endpoint: a pod's name and its namespace, with the dot between them.
const NAME_BYTES_MAX: usize = 2 * PART_BYTES_MAX + 1;

/// Digits of a container's id that podman makes an alias.
const SHORT_ID_DIGITS: usize = 12;

/// What is wished, whichever way it was said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Addresses, at most one of each family, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// MAC address.
    pub mac: Option<String>,
    /// Name in the mesh.
    pub name: Option<String>,
    /// Labels.
    pub labels: Labels,
    /// Resolvers, to be told in the result.
    pub dns: Dns,
}

impl Wishes {
    /// Reads them.
    pub fn read(
        root: &Object<'_>,
        arguments: Arguments,
        network: &str,
        place: &Place,
    ) -> Result<Self, Failure> {
        let Arguments { addresses: mut wanted, mac, pod_namespace, pod_name, pod_uid } = arguments;
        let runtime = root.object("runtimeConfig")?;
        let runtime = runtime.as_ref();
        let mut labels = Labels::new();
        let mut aliases = Vec::new();
        let mut mac_wanted = None;
        let mut dns = None;
        if let Some(runtime) = runtime {
            wanted.extend(texts_as_addresses(runtime)?);
            mac_wanted = runtime.text("mac")?.map(str::to_owned);
            aliases = aliases_in(runtime, network)?;
            dns = runtime.object("dns")?;
            if let Some(annotations) = runtime.object(ANNOTATIONS)? {
                wanted.extend(annotated_addresses(&annotations)?);
                labels.extend(annotated_labels(&annotations)?);
            }
        }
        if let Some(cni) = root.object("args")?.map(|args| args.object("cni")).transpose()?.flatten() {
            wanted.extend(texts_as_addresses(&cni)?);
        }
        let dns = match dns {
            Some(dns) => Some(dns),
            None => root.object("dns")?,
        };
        let name = name(&aliases, place, pod_name.as_deref(), pod_namespace.as_deref());
        labels.extend(runtime_label("namespace", pod_namespace));
        labels.extend(runtime_label("pod-uid", pod_uid));
        Ok(Self {
            addresses: one_of_each(wanted)?,
            mac: mac_wanted.or(mac),
            name,
            labels,
            dns: dns.map(|dns| Dns::read(&dns)).transpose()?.unwrap_or_default(),
        })
    }
}

fn texts_as_addresses(object: &Object<'_>) -> Result<Vec<IpAddr>, Failure> {
    let texts = object.texts("ips")?;
    texts
        .into_iter()
        .map(|text| address(text).ok_or_else(|| object.wrong("ips", &Value::from(text), "an address")))
        .collect()
}

fn annotated_addresses(annotations: &Object<'_>) -> Result<Vec<IpAddr>, Failure> {
    let Some(text) = annotations.text(ADDRESSES_ANNOTATION)? else { return Ok(Vec::new()) };
    addresses(text).ok_or_else(|| {
        annotations.wrong(ADDRESSES_ANNOTATION, &Value::from(text), "addresses with commas between")
    })
}

fn annotated_labels(annotations: &Object<'_>) -> Result<Labels, Failure> {
    let labels = annotations.entries().filter_map(|(key, value)| {
        let label = key.strip_prefix(LABEL_ANNOTATION_PREFIX)?;
        Some(annotated_label(annotations, key, label, value))
    });
    labels.collect()
}

fn annotated_label(
    annotations: &Object<'_>,
    key: &str,
    label: &str,
    value: &Value,
) -> Result<(String, String), Failure> {
    if label.starts_with(RUNTIME_LABEL_PREFIX) {
        return Err(Failure::new(Code::Configuration, format!("no annotation may say {label}")));
    }
    let text = value.as_str().ok_or_else(|| annotations.wrong(key, value, "a text"))?;
    Ok((label.to_owned(), text.to_owned()))
}

/// What the runtime knows of a pod; a value that no label can have is left out, so that it matches no policy.
fn runtime_label(key: &str, value: Option<String>) -> Option<(String, String)> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    let value = value.filter(|value| value.len() <= PART_BYTES_MAX && value.bytes().all(inner))?;
    Some((format!("{RUNTIME_LABEL_PREFIX}{key}"), value))
}

/// Names that podman gives in this network: the user's, then the beginning of the container's id.
fn aliases_in<'a>(runtime: &Object<'a>, network: &str) -> Result<Vec<&'a str>, Failure> {
    match runtime.object("aliases")? {
        // A network's name is data, so its case matters.
        Some(aliases) if aliases.entries().any(|(name, _)| name == network) => aliases.texts(network),
        Some(_) | None => Ok(Vec::new()),
    }
}

/// The user's alias comes before the runtime's name. A name that DNS can't have is no wish: runtimes make up some.
fn name(aliases: &[&str], place: &Place, pod: Option<&str>, namespace: Option<&str>) -> Option<String> {
    let short_id = place.container.get(..SHORT_ID_DIGITS);
    let alias = aliases.iter().copied().find(|alias| Some(*alias) != short_id && *alias != place.container);
    let name = match (alias, pod, namespace) {
        (Some(alias), _, _) => alias.to_owned(),
        (None, Some(pod), Some(namespace)) => format!("{pod}.{namespace}"),
        (None, Some(pod), None) => pod.to_owned(),
        (None, None, _) => return None,
    };
    let name = name.to_ascii_lowercase();
    is_dns_name(&name).then_some(name)
}

fn is_dns_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_part = |part: &str| {
        (1..=PART_BYTES_MAX).contains(&part.len())
            && part.bytes().all(inner)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    name.len() <= NAME_BYTES_MAX && name.split('.').all(is_part)
}

/// Puts IPv4 first; the same address may be said twice, two of one family may not.
fn one_of_each(mut addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, Failure> {
    addresses.sort_unstable();
    addresses.dedup();
    let same_family = addresses.windows(2).find_map(|pair| match pair {
        [one, other] if one.is_ipv4() == other.is_ipv4() => Some((*one, *other)),
        _ => None,
    });
    match same_family {
        None => Ok(addresses),
        Some((one, other)) => {
            let both = format!("both {one} and {other} are wanted, an interface has one of each family");
            Err(Failure::new(Code::Configuration, both))
        }
    }
}

#[cfg(test)]
mod tests;
