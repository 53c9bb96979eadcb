//! Ports of a rule.

use k8s_openapi::api::networking::v1::NetworkPolicyPort;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use meshd_api::PolicyProtocol;

/// Ports that a rule allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// These numbers.
    Range {
        /// Protocol.
        protocol: PolicyProtocol,
        /// First number.
        first: u16,
        /// Last number.
        last: u16,
    },
    /// Whatever number the pod that is reached gives this name.
    Named {
        /// Protocol.
        protocol: PolicyProtocol,
        /// The name.
        name: String,
    },
}

impl Port {
    /// Reads one, or says what is wrong with it.
    pub fn read(port: &NetworkPolicyPort) -> Result<Self, String> {
        let word = port.protocol.as_deref();
        let protocol =
            protocol(word).ok_or_else(|| format!("unknown protocol {:?}", word.unwrap_or_default()))?;
        match (&port.port, port.end_port) {
            (None, None) => Ok(Self::Range { protocol, first: 0, last: u16::MAX }),
            (None, Some(end)) => Err(format!("endPort {end} without a port")),
            (Some(IntOrString::Int(first)), end) => {
                let (first, last) = (number(*first)?, number(end.unwrap_or(*first))?);
                if last < first {
                    return Err(format!("endPort {last} is less than port {first}"));
                }
                Ok(Self::Range { protocol, first, last })
            }
            (Some(IntOrString::String(name)), None) => Ok(Self::Named { protocol, name: name.clone() }),
            (Some(IntOrString::String(name)), Some(end)) => {
                Err(format!("endPort {end} after the name {name:?}"))
            }
        }
    }
}

/// The protocol of a word; TCP if there is none.
pub fn protocol(word: Option<&str>) -> Option<PolicyProtocol> {
    match word {
        None | Some("TCP") => Some(PolicyProtocol::Tcp),
        Some("UDP") => Some(PolicyProtocol::Udp),
        Some("SCTP") => Some(PolicyProtocol::Sctp),
        Some(_) => None,
    }
}

fn number(port: i32) -> Result<u16, String> {
    u16::try_from(port).ok().filter(|port| *port > 0).ok_or_else(|| format!("{port} is no port"))
}
