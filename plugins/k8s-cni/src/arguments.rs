//! The extra arguments in `CNI_ARGS`: `KEY=value` with semicolons between.

use std::net::IpAddr;

use crate::failure::{Code, Failure};

/// What is known of the extra arguments; every other one is somebody else's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arguments {
    /// Addresses wanted.
    pub addresses: Vec<IpAddr>,
    /// MAC address wanted.
    pub mac: Option<String>,
    /// Namespace of the pod.
    pub pod_namespace: Option<String>,
    /// Name of the pod, or of podman's container.
    pub pod_name: Option<String>,
    /// Unique id of the pod.
    pub pod_uid: Option<String>,
}

impl Arguments {
    /// Reads the variable's value.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let mut arguments = Self::default();
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(Failure::new(Code::Environment, format!("CNI_ARGS: {pair:?} is not KEY=value")));
            };
            if value.is_empty() {
                continue;
            }
            match key {
                "IP" => arguments.addresses.extend(addresses(value).ok_or_else(|| not_addresses(value))?),
                "MAC" => arguments.mac = Some(value.to_owned()),
                "K8S_POD_NAMESPACE" => arguments.pod_namespace = Some(value.to_owned()),
                "K8S_POD_NAME" => arguments.pod_name = Some(value.to_owned()),
                "K8S_POD_UID" => arguments.pod_uid = Some(value.to_owned()),
                _ => {}
            }
        }
        Ok(arguments)
    }
}

fn not_addresses(value: &str) -> Failure {
    Failure::new(Code::Environment, format!("CNI_ARGS: IP is {value:?}, not an address"))
}

/// Reads addresses with commas between; a prefix length behind one has no meaning here.
pub fn addresses(text: &str) -> Option<Vec<IpAddr>> {
    text.split(',').map(|part| address(part.trim())).collect()
}

/// Reads an address with or without a prefix length.
pub fn address(text: &str) -> Option<IpAddr> {
    let Some((address, length)) = text.split_once('/') else { return text.parse().ok() };
    let address: IpAddr = address.parse().ok()?;
    let length_max = if address.is_ipv4() { 32 } else { 128 };
    length.parse::<u8>().ok().filter(|length| *length <= length_max).map(|_| address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pod_keys_are_found_in_any_order_and_others_are_left_alone() {
        let text = "K8S_POD_UID=u-1;IgnoreUnknown=1;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=77;K8S_POD_NAMESPACE=shop";
        let arguments = Arguments::parse(text).expect("arguments");
        assert_eq!(arguments.pod_namespace.as_deref(), Some("shop"));
        assert_eq!(arguments.pod_name.as_deref(), Some("web-0"));
        assert_eq!(arguments.pod_uid.as_deref(), Some("u-1"));
    }

    #[test]
    fn addresses_come_alone_repeated_listed_or_with_a_length() {
        for text in [
            "IP=10.0.0.7;IP=fd77::7",
            "IP=10.0.0.7,fd77::7",
            "IP=10.0.0.7/16, fd77::7/64;",
            ";;IP=10.0.0.7;IP=fd77::7/128",
        ] {
            let arguments = Arguments::parse(text).expect(text);
            let wanted: Vec<IpAddr> = vec!["10.0.0.7".parse().expect("one"), "fd77::7".parse().expect("one")];
            assert_eq!(arguments.addresses, wanted, "{text}");
        }
    }

    #[test]
    fn what_is_no_pair_or_no_address_is_refused_by_name() {
        for text in ["IP", "IP=10.0.0", "IP=10.0.0.7/33", "IP=10.0.0.7,", "IP=fd77::7/129", "x;IP=10.0.0.7"] {
            let failure = Arguments::parse(text).expect_err(text);
            assert_eq!(failure.code(), Code::Environment);
            assert!(failure.line().contains("CNI_ARGS"), "{}", failure.line());
        }
    }
}
