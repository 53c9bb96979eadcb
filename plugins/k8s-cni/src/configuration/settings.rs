//! The keys of a network of type `meshd`.

use meshd_api::{Allocation, Egress, Network, Policing, Reach};

use crate::configuration;
use crate::document::{Object, shown};
use crate::failure::{Code, Failure};

/// What networks and endpoints of this plugin belong to, in meshd.
pub const RUNTIME: &str = "cni";

/// Keys of this type.
const OWN: [&str; 8] = ["pool4", "pool6", "allocation", "egress", "reach", "policy", "mtu", "socket"];

/// Keys that CNI or a runtime may put into any configuration.
const FOREIGN: [&str; 13] = [
    "cniVersion",
    "cniVersions",
    "name",
    "type",
    "capabilities",
    "runtimeConfig",
    "args",
    "dns",
    "ipam",
    "ipMasq",
    "prevResult",
    "disableCheck",
    "disableGC",
];

/// Keys with this in front are CNI's own.
const FOREIGN_PREFIX: &str = "cni.dev/";

/// What the keys say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The network, if its pools are named here; else somebody else made it known to meshd.
    pub network: Option<Network>,
    /// Largest packet, if less than the mesh's.
    pub mtu: Option<u16>,
    /// Whether the mesh is to be the default route.
    pub is_default_route: bool,
}

impl Settings {
    /// Reads them; a key that nobody knows is refused.
    pub fn read(root: &Object<'_>) -> Result<Self, Failure> {
        only_known(root)?;
        no_other_ipam(root)?;
        let text = |key| Ok::<_, Failure>(root.text(key)?.map(str::to_owned));
        let (pool4, pool6) = (text("pool4")?, text("pool6")?);
        let mtu = mtu(root)?;
        let allocation = root
            .word("allocation", &[("blocks", Allocation::Blocks), ("sequential", Allocation::Sequential)])?;
        let reach = root.word("reach", &[("mesh", Reach::Mesh), ("network", Reach::Network)])?;
        let policy =
            root.word("policy", &[("optional", Policing::Optional), ("required", Policing::Required)])?;
        // No runtime of CNI adds a link of its own, so the way out is through the mesh unless the configuration says no.
        let egress = root.word(
            "egress",
            &[("mesh", Egress::Mesh), ("runtime", Egress::Runtime), ("none", Egress::None)],
        )?;
        let is_default_route = egress.unwrap_or(Egress::Mesh) == Egress::Mesh;
        if pool4.is_none() && pool6.is_none() {
            let poolless = [
                ("allocation", allocation.is_some()),
                ("reach", reach.is_some()),
                ("policy", policy.is_some()),
            ];
            if let Some((key, _)) = poolless.iter().find(|(_, is_said)| *is_said) {
                return Err(Failure::new(Code::Configuration, format!("{key} needs pool4 or pool6")));
            }
            return Ok(Self { network: None, mtu, is_default_route });
        }
        let network = Network {
            runtime: RUNTIME.to_owned(),
            network: configuration::name(root)?.to_owned(),
            pool4,
            pool6,
            allocation: allocation.unwrap_or_default(),
            egress: egress.unwrap_or(Egress::Mesh),
            mtu,
            ranges: Vec::new(),
            reach: reach.unwrap_or_default(),
            policy: policy.unwrap_or_default(),
        };
        Ok(Self { network: Some(network), mtu, is_default_route })
    }
}

fn only_known(root: &Object<'_>) -> Result<(), Failure> {
    let is_known = |key: &str| {
        let known = OWN.iter().chain(&FOREIGN).any(|one| one.eq_ignore_ascii_case(key));
        known || key.starts_with(FOREIGN_PREFIX)
    };
    match root.entries().find(|(key, _)| !is_known(key)) {
        None => Ok(()),
        Some((key, value)) => {
            Err(Failure::new(Code::Key, format!("unknown key {key:?} with {}", shown(value)))
                .with(format!("a network of type meshd has {}", OWN.join(", "))))
        }
    }
}

/// Addresses that another plugin chose would not be the mesh's.
fn no_other_ipam(root: &Object<'_>) -> Result<(), Failure> {
    let Some(ipam) = root.object("ipam")? else { return Ok(()) };
    match ipam.text("type")? {
        None | Some("meshd") => Ok(()),
        Some(other) => {
            Err(Failure::new(Code::Key, format!("ipam.type {other:?} can't choose addresses of the mesh"))
                .with("leave ipam out and name pool4 and pool6"))
        }
    }
}

fn mtu(root: &Object<'_>) -> Result<Option<u16>, Failure> {
    let Some(value) = root.get("mtu") else { return Ok(None) };
    let mtu = value.as_u64().and_then(|mtu| u16::try_from(mtu).ok());
    mtu.map(Some).ok_or_else(|| root.wrong("mtu", value, "a number of bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::parse;

    fn of(text: &str) -> Result<Settings, Failure> {
        let fields = parse(text.as_bytes()).expect("an object");
        Settings::read(&Object::root(&fields))
    }

    #[test]
    fn all_keys_reach_the_network() {
        let settings = of(
            r#"{"name":"n","pool4":"10.9.0.0/20","pool6":"fd77::/64","allocation":"sequential","egress":"none","reach":"network","policy":"required","mtu":1400,"socket":"/s"}"#,
        );
        let settings = settings.expect("settings");
        let network = settings.network.expect("a network");
        assert_eq!((network.runtime.as_str(), network.network.as_str()), ("cni", "n"));
        assert_eq!(
            (network.pool4.as_deref(), network.pool6.as_deref()),
            (Some("10.9.0.0/20"), Some("fd77::/64"))
        );
        assert_eq!((network.allocation, network.egress), (Allocation::Sequential, Egress::None));
        assert_eq!((network.reach, network.policy), (Reach::Network, Policing::Required));
        assert_eq!((network.mtu, settings.mtu), (Some(1400), Some(1400)));
        assert!(!settings.is_default_route);
    }

    #[test]
    fn the_mesh_is_the_way_out_unless_the_configuration_says_no() {
        for (egress, expected) in [
            ("", true),
            (r#""egress":"mesh","#, true),
            (r#""egress":"runtime","#, false),
            (r#""egress":"none","#, false),
        ] {
            let settings = of(&format!(r#"{{{egress}"name":"n","pool4":"10.9.0.0/20"}}"#)).expect("settings");
            assert_eq!(settings.is_default_route, expected, "{egress}");
        }
    }

    #[test]
    fn without_pools_nothing_is_put() {
        assert_eq!(of(r#"{"name":"n","mtu":1400}"#).expect("settings").network, None);
        for (key, word) in [("allocation", "blocks"), ("reach", "network"), ("policy", "required")] {
            let failure = of(&format!(r#"{{"name":"n","{key}":"{word}"}}"#)).expect_err("no pool");
            assert_eq!(failure.line(), format!("{key} needs pool4 or pool6"));
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_its_value_and_the_known_ones() {
        let failure = of(r#"{"name":"n","pool":"10.9.0.0/20"}"#).expect_err("a key");
        assert_eq!(failure.code(), Code::Key);
        assert_eq!(
            failure.line(),
            r#"unknown key "pool" with "10.9.0.0/20"; a network of type meshd has pool4, pool6, allocation, egress, reach, policy, mtu, socket"#
        );
    }

    #[test]
    fn keys_of_others_are_left_alone() {
        let text = r#"{"cniVersion":"1.0.0","cniVersions":[],"name":"n","type":"meshd","capabilities":{},"runtimeConfig":{},
            "args":{"x":1},"dns":{},"ipam":{},"ipMasq":false,"prevResult":{},"disableCheck":true,"disableGC":false,
            "cni.dev/attachments":[],"cni.dev/some-later-key":7}"#;
        assert!(of(text).is_ok());
    }

    #[test]
    fn wrong_values_name_their_key() {
        for (text, key) in [
            (r#"{"name":"n","mtu":65536}"#, "mtu is 65536"),
            (r#"{"name":"n","mtu":"1400"}"#, r#"mtu is "1400""#),
            (r#"{"name":"n","mtu":-1}"#, "mtu is -1"),
            (r#"{"name":"n","pool4":7}"#, "pool4 is 7"),
            (r#"{"name":"n","egress":"nat"}"#, r#"egress is "nat", not mesh, runtime or none"#),
            (
                r#"{"name":"n","pool4":"p","allocation":"random"}"#,
                r#"allocation is "random", not blocks or sequential"#,
            ),
            (r#"{"name":"n","reach":"all"}"#, r#"reach is "all", not mesh or network"#),
            (r#"{"name":"n","policy":true}"#, "policy is true"),
            (r#"{"name":"n","ipam":[]}"#, "ipam is []"),
        ] {
            let failure = of(text).expect_err(text);
            assert_eq!(failure.code(), Code::Configuration, "{text}");
            assert!(failure.line().starts_with(key), "{}", failure.line());
        }
        let failure = of(r#"{"name":"n","ipam":{"type":"host-local"}}"#).expect_err("another's addresses");
        assert_eq!(failure.code(), Code::Key);
    }
}
