//! Whose a link is: by its name, its hardware address and its alias.

use meshd_wire::EndpointId;

use super::mac::Mac;

/// Prefix of all links on the host's side.
pub(super) const HOST_PREFIX: &str = "msh";
const CONTAINER_PREFIX: &str = "msc";
/// Name of the format in the alias of a host end; another one is not ours to touch.
const ALIAS: &str = "meshd:1:";
/// Digits of the id in a link's name: all that the kernel leaves beside the prefix.
const DIGITS: usize = 12;
/// Longest name of a runtime: the kernel keeps 255 bytes of an alias.
const RUNTIME_LEN_MAX: usize = 64;

/// The endpoint that a link belongs to; stands in the link's alias, so that it is known even when all state is lost.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkOwner {
    runtime: String,
    id: EndpointId,
}

/// Says that a runtime's name can't stand in an alias.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a runtime is named by 1 to {RUNTIME_LEN_MAX} lowercase letters, digits and dashes")]
pub struct RuntimeNameError;

/// Name of the host's end of an endpoint's link.
pub fn host_link(id: EndpointId) -> String {
    named(HOST_PREFIX, id)
}

/// Name of the endpoint's end as long as nobody has given it another.
pub fn container_link(id: EndpointId) -> String {
    named(CONTAINER_PREFIX, id)
}

/// Hardware address of the host's end.
pub fn host_mac(id: EndpointId) -> Mac {
    let [a, b, c, d, e, ..] = id.0;
    Mac::local([a, b, c, d, e])
}

/// Whether a link of this name leads to an endpoint.
pub(super) fn is_host_end(name: &str) -> bool {
    name.starts_with(HOST_PREFIX)
}

fn named(prefix: &str, id: EndpointId) -> String {
    format!("{prefix}{:.DIGITS$}", id.to_string())
}

impl LinkOwner {
    /// The endpoint `id` of a runtime.
    pub fn new(runtime: &str, id: EndpointId) -> Result<Self, RuntimeNameError> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = (1..=RUNTIME_LEN_MAX).contains(&runtime.len()) && runtime.bytes().all(is_plain);
        fits.then(|| Self { runtime: runtime.to_owned(), id }).ok_or(RuntimeNameError)
    }

    /// The runtime.
    pub fn runtime(&self) -> &str {
        &self.runtime
    }

    /// The endpoint.
    pub fn id(&self) -> EndpointId {
        self.id
    }

    pub(super) fn alias(&self) -> String {
        format!("{ALIAS}{}:{}", self.runtime, self.id)
    }

    /// Reads an alias back; `None` if it isn't exactly what we write.
    pub(super) fn of_alias(alias: &str) -> Option<Self> {
        let (runtime, id) = alias.strip_prefix(ALIAS)?.split_once(':')?;
        let owner = Self::new(runtime, id.parse().ok()?).ok()?;
        (owner.alias() == alias).then_some(owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> EndpointId {
        EndpointId(std::array::from_fn(|index| index as u8 + 0xa0))
    }

    #[test]
    fn names_of_links_are_those_of_the_id_and_fit_the_kernel() {
        assert_eq!(host_link(id()), "msha0a1a2a3a4a5");
        assert_eq!(container_link(id()), "msca0a1a2a3a4a5");
        assert_eq!(host_link(id()).len(), 15);
        assert_eq!(host_mac(id()).to_string(), "02:a0:a1:a2:a3:a4");
    }

    #[test]
    fn an_owner_is_read_back_from_its_alias() {
        let owner = LinkOwner::new("docker", id()).expect("a runtime's name");
        assert!(owner.alias().starts_with("meshd:1:docker:a0a1"));
        assert_eq!(LinkOwner::of_alias(&owner.alias()), Some(owner));
    }

    #[test]
    fn aliases_of_others_and_bad_runtimes_are_refused() {
        let id = id().to_string();
        let wrong = [
            String::new(),
            "uplink".to_owned(),
            format!("meshd:2:docker:{id}"),
            format!("meshd:1::{id}"),
            format!("meshd:1:Docker:{id}"),
            format!("meshd:1:docker:{}", &id[1..]),
            format!("meshd:1:docker:{id}00"),
            format!("meshd:1:docker:x:{id}"),
            format!("meshd:1:docker: {id}"),
            format!("meshd:1:docker:{}", id.to_uppercase()),
        ];
        for alias in wrong {
            assert_eq!(LinkOwner::of_alias(&alias), None, "{alias}");
        }
        assert_eq!(
            LinkOwner::new(&"a".repeat(RUNTIME_LEN_MAX + 1), super::tests::id()),
            Err(RuntimeNameError)
        );
    }
}
