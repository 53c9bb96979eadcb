//! The options of a network: what is typed behind `-o`, and `--internal`.

use meshd_api::{Allocation, Egress, Reach};
use serde_json::{Map, Value};

use crate::body::shown;
use crate::failure::Failure;

const ALLOCATION: &str = "meshd.alloc";
const EGRESS: &str = "meshd.egress";
const REACH: &str = "meshd.reach";
const MTU: &str = "com.docker.network.driver.mtu";

/// What is offered, for messages.
const KNOWN: &str = "meshd.alloc (blocks or sequential), meshd.egress (docker, mesh or none), meshd.reach (network or mesh) and com.docker.network.driver.mtu";

/// Options with this in front are Docker's; it adds some by itself.
const FOREIGN: &str = "com.docker.";

/// Where Docker puts what is typed behind `-o`.
const GENERIC: &str = "com.docker.network.generic";
/// Where it puts `--internal`.
const INTERNAL: &str = "com.docker.network.internal";

/// Smallest packet that every link must carry.
const MTU_MIN: u16 = 1280;

/// What the options say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkOptions {
    /// How addresses are chosen.
    pub allocation: Allocation,
    /// How containers reach what is not in the mesh.
    pub egress: Egress,
    /// Whom containers reach in their organisation: as Docker's users expect it, networks are apart unless they say so.
    pub reach: Reach,
    /// Largest packet, if less than the mesh's.
    pub mtu: Option<u16>,
}

impl NetworkOptions {
    /// Reads them; one that is not offered is refused, so that a mistyped one is not silently nothing.
    pub fn read(options: &Map<String, Value>) -> Result<Self, Failure> {
        let (mut allocation, mut egress, mut reach, mut mtu) = (None, None, Reach::Network, None);
        for (key, value) in options.get(GENERIC).and_then(Value::as_object).into_iter().flatten() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let wrong =
                |wanted: &str| Failure::new(format!("option {key} is {}, not {wanted}", shown(&text)));
            match key.as_str() {
                ALLOCATION => {
                    allocation = Some(match text.as_str() {
                        "blocks" => Allocation::Blocks,
                        "sequential" => Allocation::Sequential,
                        _ => return Err(wrong("blocks or sequential")),
                    });
                }
                EGRESS => {
                    egress = Some(match text.as_str() {
                        "docker" => Egress::Runtime,
                        "mesh" => Egress::Mesh,
                        "none" => Egress::None,
                        _ => return Err(wrong("docker, mesh or none")),
                    });
                }
                REACH => {
                    reach = match text.as_str() {
                        "network" => Reach::Network,
                        "mesh" => Reach::Mesh,
                        _ => return Err(wrong("network or mesh")),
                    };
                }
                MTU => {
                    let bytes = text.parse().ok().filter(|mtu| *mtu >= MTU_MIN);
                    mtu = Some(bytes.ok_or_else(|| wrong(&format!("{MTU_MIN} bytes or more")))?);
                }
                _ if key.starts_with(FOREIGN) => {}
                _ => {
                    return Err(Failure::new(format!("unknown option {}", shown(key)))
                        .with(format!("known are {KNOWN}")));
                }
            }
        }
        let is_internal = options.get(INTERNAL).and_then(Value::as_bool).unwrap_or(false);
        let egress = match (is_internal, egress) {
            (false, egress) => egress.unwrap_or_default(),
            (true, None | Some(Egress::None)) => Egress::None,
            (true, Some(Egress::Runtime | Egress::Mesh)) => {
                return Err(
                    Failure::new("an internal network has no way out").with(format!("leave {EGRESS} out"))
                );
            }
        };
        Ok(Self { allocation: allocation.unwrap_or_default(), egress, reach, mtu })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(options: &Value) -> Result<NetworkOptions, String> {
        NetworkOptions::read(options.as_object().expect("options")).map_err(|failure| failure.line())
    }

    fn typed(key: &str, value: &str) -> Result<NetworkOptions, String> {
        read(&json!({GENERIC: {key: value}}))
    }

    #[test]
    fn what_is_not_typed_has_a_default() {
        let none = NetworkOptions {
            allocation: Allocation::Blocks,
            egress: Egress::Runtime,
            reach: Reach::Network,
            mtu: None,
        };
        for options in
            [json!({}), json!({GENERIC: null}), json!({GENERIC: {}, "com.docker.network.enable_ipv6": true})]
        {
            assert_eq!(read(&options), Ok(none.clone()));
        }
    }

    #[test]
    fn all_options_are_read() {
        assert_eq!(
            typed(ALLOCATION, "sequential").map(|options| options.allocation),
            Ok(Allocation::Sequential)
        );
        assert_eq!(typed(EGRESS, "mesh").map(|options| options.egress), Ok(Egress::Mesh));
        assert_eq!(typed(EGRESS, "docker").map(|options| options.egress), Ok(Egress::Runtime));
        assert_eq!(typed(EGRESS, "none").map(|options| options.egress), Ok(Egress::None));
        assert_eq!(typed(REACH, "mesh").map(|options| options.reach), Ok(Reach::Mesh));
        assert_eq!(typed(REACH, "network").map(|options| options.reach), Ok(Reach::Network));
        assert_eq!(typed(MTU, "1380").map(|options| options.mtu), Ok(Some(1380)));
        assert_eq!(read(&json!({GENERIC: {MTU: 1380}})).map(|options| options.mtu), Ok(Some(1380)));
    }

    #[test]
    fn wrong_and_unknown_ones_are_named_with_what_is_possible() {
        for (key, value, line) in [
            (ALLOCATION, "random", r#"option meshd.alloc is "random", not blocks or sequential"#),
            (EGRESS, "", r#"option meshd.egress is "", not docker, mesh or none"#),
            (REACH, "all", r#"option meshd.reach is "all", not network or mesh"#),
            (MTU, "1279", r#"option com.docker.network.driver.mtu is "1279", not 1280 bytes or more"#),
            (MTU, "65536", r#"option com.docker.network.driver.mtu is "65536", not 1280 bytes or more"#),
        ] {
            assert_eq!(typed(key, value), Err(line.to_owned()));
        }
        for key in ["meshd.alocate", "parent"] {
            assert_eq!(typed(key, "x"), Err(format!("unknown option \"{key}\": known are {KNOWN}")));
        }
        assert!(typed("com.docker.network.bridge.name", "x").is_ok());
    }

    #[test]
    fn an_internal_network_has_no_way_out() {
        let internal =
            |egress: Value| read(&json!({INTERNAL: true, GENERIC: egress})).map(|options| options.egress);
        assert_eq!(internal(json!({})), Ok(Egress::None));
        assert_eq!(internal(json!({EGRESS: "none"})), Ok(Egress::None));
        for egress in ["mesh", "docker"] {
            assert_eq!(
                internal(json!({EGRESS: egress})),
                Err("an internal network has no way out: leave meshd.egress out".to_owned())
            );
        }
    }
}
