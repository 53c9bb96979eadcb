//! Who the endpoints of containers are.

use std::collections::BTreeMap;

use meshd_api::{Attachment, Endpoint, Identity, Labels};

use crate::engine::Container;

/// What a label of a container begins with that is one of its endpoint.
const LABEL: &str = "meshd.label.";

/// Who is behind each endpoint of Docker that meshd knows. A name has one holder, so of the endpoints of a container
/// the oldest has it.
pub fn of(containers: &[Container], known: &[Endpoint]) -> BTreeMap<Attachment, Identity> {
    let mut identities = BTreeMap::new();
    let mut at: BTreeMap<(&str, &str), &Endpoint> = BTreeMap::new();
    for endpoint in known {
        let Attachment { runtime: _, network, container, ifname: _ } = &endpoint.attachment;
        at.insert((network, container), endpoint);
    }
    for container in containers {
        let own =
            container.places().filter_map(|place| at.get(&(&*place.network, &*place.endpoint)).copied());
        let mut own: Vec<&Endpoint> = own.collect();
        own.sort_by_key(|endpoint| (endpoint.since, &endpoint.id));
        let mut name = name(container);
        for endpoint in own {
            let image = Some(container.image.clone()).filter(|image| !image.is_empty());
            let identity = Identity { name: name.take(), labels: labels(container), image };
            identities.insert(endpoint.attachment.clone(), identity);
        }
    }
    identities
}

/// Its name in the letters of DNS: compose joins words by a character that no host name has.
fn name(container: &Container) -> Option<String> {
    // A name with a second slash is what another container calls it.
    let name =
        container.names.iter().find_map(|name| name.strip_prefix('/').filter(|name| !name.contains('/')))?;
    Some(name.to_ascii_lowercase().replace('_', "-"))
}

fn labels(container: &Container) -> Labels {
    let labels = container.labels.iter();
    labels.filter_map(|(key, value)| Some((key.strip_prefix(LABEL)?.to_owned(), value.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container(name: &str, endpoints: &[&str]) -> Container {
        let place = |id: &&str| (format!("network of {id}"), json!({"NetworkID": "n", "EndpointID": id}));
        let networks: serde_json::Map<_, _> = endpoints.iter().map(place).collect();
        let container = json!({
            "Names": [format!("/other/{name}"), format!("/{name}")],
            "ImageID": "sha256:1f",
            "Labels": {"meshd.label.tier": "db", "com.docker.compose.project": "study"},
            "NetworkSettings": {"Networks": networks},
        });
        serde_json::from_value(container).expect("a container")
    }

    fn endpoint(id: &str, since: u64) -> Endpoint {
        Endpoint { since, ..crate::sample::endpoint(id) }
    }

    fn told(containers: &[Container], known: &[Endpoint]) -> Vec<(String, Option<String>)> {
        let identities = of(containers, known).into_iter();
        identities.map(|(attachment, identity)| (attachment.container, identity.name)).collect()
    }

    #[test]
    fn an_endpoint_is_who_its_container_is() {
        let identities = of(&[container("Study_db_1", &["e1"])], &[endpoint("e1", 5), endpoint("e2", 1)]);
        let labels = Labels::from([("tier".to_owned(), "db".to_owned())]);
        let wanted =
            Identity { name: Some("study-db-1".to_owned()), labels, image: Some("sha256:1f".to_owned()) };
        assert_eq!(identities.into_values().collect::<Vec<_>>(), [wanted]);
    }

    #[test]
    fn the_oldest_endpoint_of_a_container_has_the_name() {
        let web = [container("web", &["e1", "e2"])];
        let name = |text: &str| Some(text.to_owned());
        let known = [endpoint("e1", 7), endpoint("e2", 5)];
        assert_eq!(told(&web, &known), [("e1".to_owned(), None), ("e2".to_owned(), name("web"))]);
        assert_eq!(told(&web, &known[..1]), [("e1".to_owned(), name("web"))]);
    }
}
