//! A member of the mesh that attaches endpoints as the daemon does.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use meshd::endpoints::{
    BootId, Entry, Rulebook, Stage, Survey, Suspects, Verdict, Wired, Wiring, WiringError, WiringSettings,
    verdicts,
};
use meshd::os::{GATEWAY4, GATEWAY6, Mac, container_link};
use meshd_api::{Attachment, Labels, Namespace};
use meshd_wire::Timestamp;

use crate::rig::*;

/// A member of the mesh that attaches endpoints.
pub(crate) struct Node {
    pub(crate) space: Space,
    pub(crate) wiring: Wiring,
}

impl Node {
    pub(crate) fn new() -> Option<Self> {
        let space = member()?;
        let wiring = space
            .inside(|| Wiring::start(wiring_settings(), &[], &[], Rulebook::default()))
            .expect("wiring starts");
        Some(Self { space, wiring })
    }

    /// Starts again with what was stored.
    pub(crate) fn restart(&mut self, entries: &[Entry]) {
        self.restart_as(entries, entries, Rulebook::default());
    }

    /// Starts again where policies hold, and not everybody who is attached may be in the mesh.
    pub(crate) fn restart_as(&mut self, entries: &[Entry], may_be_admitted: &[Entry], rulebook: Rulebook) {
        self.wiring = self
            .space
            .inside(|| Wiring::start(wiring_settings(), entries, may_be_admitted, rulebook))
            .expect("wiring starts again");
    }

    pub(crate) fn attach(&self, entry: &Entry) -> Result<Wired, WiringError> {
        self.space.inside(|| self.wiring.attach(entry))
    }

    pub(crate) fn attach_all<'a>(&self, endpoints: impl IntoIterator<Item = &'a Endpoint>) {
        for endpoint in endpoints {
            self.attach(&endpoint.entry()).expect("the endpoint is attached");
        }
    }

    pub(crate) fn detach(&self, entry: &Entry) -> Result<(), WiringError> {
        self.space.inside(|| self.wiring.detach(entry))
    }

    pub(crate) fn faults(&self, entry: &Entry) -> Vec<String> {
        self.space.inside(|| self.wiring.faults(entry)).expect("the endpoint is looked at")
    }

    pub(crate) fn survey(&self, entries: &[Entry]) -> Survey {
        self.space.inside(|| self.wiring.survey(entries)).expect("the kernel is looked at")
    }

    pub(crate) fn filter_faults(&self) -> Vec<String> {
        self.survey(&[]).filter_faults
    }

    pub(crate) fn verdicts(&self, entries: &[Entry], suspects: &mut Suspects, now: Instant) -> Vec<Verdict> {
        verdicts(entries, &self.survey(entries), suspects, now)
    }

    /// The host reaches both, and both each other, in both families.
    pub(crate) fn assert_reached(&self, here: &Endpoint, there: &Endpoint) {
        for (family, node) in [IpAddr::from(NODE4), IpAddr::from(NODE6)].into_iter().enumerate() {
            let (at_here, at_there) = (here.addresses[family], there.addresses[family]);
            assert_reached((&self.space, node), (&here.space, at_here));
            assert_reached((&there.space, at_there), (&self.space, node));
            assert_reached((&here.space, at_here), (&there.space, at_there));
        }
    }
}

impl Endpoint {
    /// What the daemon stores of it.
    pub(crate) fn entry(&self) -> Entry {
        let path = self.space.path();
        let seen = std::fs::metadata(&path).expect("the namespace is there");
        Entry {
            id: self.id(),
            attachment: Attachment {
                runtime: "cni".to_owned(),
                network: "pods".to_owned(),
                container: self.id().to_string(),
                ifname: IFNAME.to_owned(),
            },
            namespace: Some(Namespace { path, dev: seen.dev(), ino: seen.ino() }),
            addresses: self.addresses.into(),
            mac: Mac::local([0xee, 0, 0, 0, 1]),
            mtu: MTU,
            name: None,
            labels: Labels::new(),
            image: None,
            gateways: [IpAddr::from(GATEWAY4), GATEWAY6.into()].into(),
            routes: every_prefix().into(),
            has_egress: false,
            sandbox: None,
            stage: Stage::Attached,
            since: Timestamp(1_700_000_000),
            boot: BootId::current().expect("the kernel has an id"),
        }
    }

    /// Moves the link in, and names and configures it, as libnetwork does.
    pub(crate) fn take(&self, host: &Space) {
        host.ip(&format!("link set {} name mesh0 netns {}", container_link(self.id()), self.space.path()));
        let [v4, v6] = self.addresses;
        for words in [
            format!("address add {v4}/32 dev mesh0"),
            format!("address add {v6}/128 dev mesh0 nodad"),
            "link set mesh0 up".to_owned(),
            "route add 169.254.1.1/32 dev mesh0".to_owned(),
            "route add 10.91.0.0/16 via 169.254.1.1 dev mesh0".to_owned(),
            "-6 route add fe80::1/128 dev mesh0".to_owned(),
            "-6 route add fd91::/48 via fe80::1 dev mesh0".to_owned(),
        ] {
            self.space.ip(&words);
        }
    }
}

pub(crate) fn wiring_settings() -> WiringSettings {
    let of_firewall = settings();
    WiringSettings {
        device: of_firewall.device,
        addr4: of_firewall.addr4,
        addr6: of_firewall.addr6,
        prefixes: of_firewall.prefixes,
        underlay_port: of_firewall.underlay_port,
        control_port: of_firewall.control_port,
        device_mtu: DEVICE_MTU,
    }
}
