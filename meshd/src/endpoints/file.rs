//! What this node has to remember of its endpoints, as it is stored.

mod format;

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use meshd_api::Network;
use meshd_wire::{NodeId, Timestamp};

use super::entry::Entry;
use crate::generations::{Generations, GenerationsError};
use crate::stored::{self, Stored, StoredError};
use format::StoredContent;

/// What survives a restart: no runtime tells it twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// Container networks.
    pub networks: Vec<Network>,
    /// Endpoints.
    pub entries: Vec<Entry>,
    /// Addresses of endpoints to come.
    pub reserved: Vec<Reserved>,
    /// Blocks of addresses that this node claims.
    pub blocks: Vec<IpNet>,
}

/// An address that was claimed for an endpoint which is not attached yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved {
    /// The address.
    pub address: IpAddr,
    /// When it was claimed.
    pub since: Timestamp,
}

/// Counts the changes of what is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edition(u64);

/// The endpoints of this node, and the file they are in.
pub struct EndpointsFile {
    disk: Arc<Mutex<Disk>>,
    node: NodeId,
    content: Content,
    edition: Edition,
}

struct Disk {
    file: Generations,
    edition: Edition,
    is_closed: bool,
}

/// Content on its way to the disk.
pub struct Draft {
    disk: Arc<Mutex<Disk>>,
    stored: StoredContent,
    edition: Edition,
}

impl EndpointsFile {
    /// Opens the file and reads what a node has stored; what another membership has left behind is nobody's.
    pub fn open(dir: &Path, node: NodeId) -> Result<Self, StoredError> {
        let (file, stored) = stored::open::<StoredContent>(dir)?;
        let own = stored.filter(|stored| stored.node() == node);
        let content = own.map(Content::try_from).transpose();
        let content = content.map_err(|source| StoredError::Decode { name: StoredContent::NAME, source })?;
        let disk = Disk { file, edition: Edition::default(), is_closed: false };
        Ok(Self {
            disk: Arc::new(Mutex::new(disk)),
            node,
            content: content.unwrap_or_default(),
            edition: Edition::default(),
        })
    }

    /// What is stored, or about to be; every list is sorted.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Replaces it; when this returns, it is on disk with all changes before, or nothing has changed.
    pub fn replace(&mut self, content: Content) -> Result<(), GenerationsError> {
        let (before, edition) = (std::mem::take(&mut self.content), self.edition);
        self.change(|now| *now = content);
        let written = self.draft().write();
        if written.is_err() {
            (self.content, self.edition) = (before, edition);
        }
        written
    }

    /// Changes it now; the disk follows with the next draft that is written. Says which edition has the change.
    pub fn change(&mut self, change: impl FnOnce(&mut Content)) -> Edition {
        change(&mut self.content);
        let Content { networks, entries, reserved, blocks } = &mut self.content;
        networks.sort_by(|a, b| (&a.runtime, &a.network).cmp(&(&b.runtime, &b.network)));
        entries.sort_by_key(|entry| entry.id);
        reserved.sort_by_key(|reserved| reserved.address);
        blocks.sort();
        self.edition.0 += 1;
        self.edition
    }

    /// All changes up to now, to be written beside the loop.
    pub fn draft(&self) -> Draft {
        let stored = StoredContent::new(self.node, &self.content);
        Draft { disk: Arc::clone(&self.disk), stored, edition: self.edition }
    }

    /// The edition of the content.
    pub fn edition(&self) -> Edition {
        self.edition
    }

    /// Sees to it that nothing is written any more; waits for what is being written.
    pub fn close(&self) {
        lock(&self.disk).is_closed = true;
    }
}

impl Draft {
    /// The edition that this is.
    pub fn edition(&self) -> Edition {
        self.edition
    }

    /// When this returns, this edition or a later one is on disk, or the disk is as it was.
    pub fn write(self) -> Result<(), GenerationsError> {
        let mut disk = lock(&self.disk);
        if disk.is_closed || disk.edition >= self.edition {
            return Ok(());
        }
        if let Some(len) = self.stored.list_len_over() {
            return Err(disk.file.refuse_list(len));
        }
        stored::write(&mut disk.file, &self.stored)?;
        disk.edition = self.edition;
        Ok(())
    }
}

/// The file is sound after a panic: it is replaced as a whole.
fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the file: this host has no endpoints any more.
pub fn forget_endpoints(dir: &Path) -> Result<(), GenerationsError> {
    Generations::open(dir, StoredContent::NAME)?.0.remove()
}

#[cfg(test)]
mod tests {
    use meshd_api::{Allocation, Attachment, Egress, Labels, Namespace, Policing, Reach};
    use meshd_wire::limits::ARRAY_LEN_MAX;
    use meshd_wire::{EndpointId, ImageDigest};
    use proptest::prelude::*;

    use super::*;
    use crate::endpoints::entry::{BootId, Stage};
    use crate::os::Mac;

    const NODE: NodeId = NodeId([1; 32]);

    #[test]
    fn what_was_stored_is_read_again_by_the_same_node_alone() {
        let dir = tempfile::tempdir().expect("directory");
        let mut file = EndpointsFile::open(dir.path(), NODE).expect("opens");
        assert_eq!(file.content(), &Content::default());
        file.replace(content()).expect("stored");
        let again = EndpointsFile::open(dir.path(), NODE).expect("opens");
        assert_eq!(again.content(), file.content());
        assert_eq!(again.content(), &content());
        let other = EndpointsFile::open(dir.path(), NodeId([9; 32])).expect("opens");
        assert_eq!(other.content(), &Content::default());
        forget_endpoints(dir.path()).expect("removed");
        assert_eq!(std::fs::read_dir(dir.path()).expect("directory").count(), 0);
    }

    #[test]
    fn a_draft_that_comes_late_does_not_bring_back_what_was_before() {
        let dir = tempfile::tempdir().expect("directory");
        let read = || EndpointsFile::open(dir.path(), NODE).expect("opens").content().clone();
        let mut file = EndpointsFile::open(dir.path(), NODE).expect("opens");
        let first = file.change(|now| *now = content());
        let (early, again) = (file.draft(), file.draft());
        assert_eq!(early.edition(), first);
        early.write().expect("stored");
        assert_eq!(read(), content());
        let later = file.change(|now| now.entries.clear());
        assert!(later > first);
        file.draft().write().expect("stored");
        again.write().expect("it is over");
        assert_eq!(&read(), file.content());
        let last = file.draft();
        file.change(|now| now.networks.clear());
        file.replace(Content { blocks: Vec::new(), ..file.content().clone() }).expect("stored");
        last.write().expect("it is over");
        assert_eq!(read(), Content { reserved: content().reserved, ..Content::default() });
        file.change(|now| now.reserved.clear());
        file.close();
        file.draft().write().expect("nobody wants it any more");
        assert_eq!(read().reserved, content().reserved);
    }

    #[test]
    fn lists_are_sorted_whatever_their_order_was() {
        let dir = tempfile::tempdir().expect("directory");
        let mut file = EndpointsFile::open(dir.path(), NODE).expect("opens");
        let mut turned = content();
        turned.networks.reverse();
        turned.entries.reverse();
        turned.reserved.reverse();
        turned.blocks.reverse();
        file.replace(turned).expect("stored");
        assert_eq!(file.content(), &content());
    }

    #[test]
    fn what_could_not_be_read_again_is_refused_and_the_old_stays() {
        let dir = tempfile::tempdir().expect("directory");
        let mut file = EndpointsFile::open(dir.path(), NODE).expect("opens");
        file.replace(content()).expect("stored");
        let [reserved, ..] = content().reserved[..] else { panic!("one") };
        let over = ARRAY_LEN_MAX + 1;
        let mut long = content();
        long.entries[0].routes = vec!["10.91.0.0/16".parse().expect("a prefix"); over];
        for long in [
            Content { reserved: vec![reserved; over], ..content() },
            Content { blocks: vec![content().blocks[0]; over], ..content() },
            Content { networks: vec![content().networks[0].clone(); over], ..content() },
            Content { entries: vec![content().entries[1].clone(); over], ..content() },
            long,
        ] {
            let refused = file.replace(long).expect_err("refused");
            assert!(matches!(refused, GenerationsError::TooMany { len, .. } if len == over));
            let again = EndpointsFile::open(dir.path(), NODE).expect("opens");
            assert_eq!(again.content(), &content());
        }
        let full = Content { reserved: vec![reserved; ARRAY_LEN_MAX], ..content() };
        file.replace(full.clone()).expect("stored");
        assert_eq!(EndpointsFile::open(dir.path(), NODE).expect("opens").content(), &full);
    }

    /// One entry with an address of each family, as it was stored before gateways and sandboxes were.
    const OF_BEFORE: &str = "86015820010101010101010101010101010101010101010101010101010101010101010180818e582003030303030303\
        030303030303030303030303030303030303030303030303038466646f636b657264626c756564726963686465746830\
        836f2f72756e2f6e65746e732f72696368041af00000a08282440a5b800318208250fd91000000000000000000000000\
        000318804602010203040519058c69726963682e626c75658282636170706373756d8264746965726264625820080808\
        080808080808080808080808080808080808080808080808080808080882824400000000008250fd9100000000000000\
        000000000000001830f5011a6553f10050070707070707070707070707070707078080";

    #[test]
    fn an_entry_of_before_has_the_gateways_that_all_endpoints_have() {
        let bytes = data_encoding::HEXLOWER.decode(OF_BEFORE.as_bytes()).expect("bytes");
        let read: StoredContent = meshd_wire::cbor::decode(&bytes).expect("it can be read");
        let [entry] = &Content::try_from(read).expect("it is sound").entries[..] else { panic!("one") };
        let gateways = ["169.254.1.1", "fe80::1"].map(|text| text.parse::<IpAddr>().expect("an address"));
        assert_eq!((&entry.gateways[..], &entry.sandbox), (&gateways[..], &None));
        assert_eq!(*entry, content().entries[1]);
    }

    /// One network, as it was stored before there was a choice of whom it reaches.
    const NETWORK_OF_BEFORE: &str = "860158200101010101010101010101010101010101010101010101010101010101010101818863636e6964706f64736d\
        31302e39312e36342e302f3230f60001f680808080";

    #[test]
    fn a_network_of_before_reaches_whom_it_reached() {
        let bytes = data_encoding::HEXLOWER.decode(NETWORK_OF_BEFORE.as_bytes()).expect("bytes");
        let read: StoredContent = meshd_wire::cbor::decode(&bytes).expect("it can be read");
        let [network] = &Content::try_from(read).expect("it is sound").networks[..] else { panic!("one") };
        assert_eq!(*network, Network { policy: Policing::Optional, ..content().networks[0].clone() });
    }

    proptest! {
        #[test]
        fn every_entry_is_read_again(
            octets in any::<[u8; 32]>(),
            words in proptest::array::uniform4(".{0,40}"),
            mac in any::<[u8; 6]>(),
            mtu in any::<u16>(),
            labels in proptest::collection::btree_map(".{0,20}", ".{0,20}", 0..5),
            addresses in proptest::collection::vec(any::<IpAddr>(), 0..3),
            routes in proptest::collection::vec((any::<IpAddr>(), 0..=32u8), 0..5),
            place in proptest::option::of((".{0,40}", any::<u64>(), any::<u64>())),
            (has_egress, since, is_named) in (any::<bool>(), any::<u64>(), any::<bool>()),
        ) {
            let [runtime, network, container, ifname] = words;
            let net = |(address, len)| IpNet::new(address, len).expect("a prefix").trunc();
            let entry = Entry {
                id: EndpointId(octets),
                attachment: Attachment { runtime, network, container: container.clone(), ifname },
                gateways: addresses.clone(),
                sandbox: is_named.then(|| container.clone()),
                namespace: place.map(|(path, dev, ino)| Namespace { path, dev, ino }),
                addresses,
                mac: Mac::from(mac),
                mtu,
                name: is_named.then_some(container),
                labels,
                image: is_named.then_some(ImageDigest(octets)),
                routes: routes.into_iter().map(net).collect(),
                has_egress,
                stage: [Stage::Wiring, Stage::Attached, Stage::Releasing][usize::from(mtu % 3)],
                since: Timestamp(since),
                boot: BootId([mtu as u8; 16]),
            };
            let stored = StoredContent::new(NODE, &Content { entries: vec![entry.clone()], ..Content::default() });
            let bytes = meshd_wire::cbor::encode(&stored);
            let read: StoredContent = meshd_wire::cbor::decode(&bytes).expect("it can be read");
            prop_assert_eq!(Content::try_from(read).expect("it is sound").entries, vec![entry]);
        }
    }

    fn content() -> Content {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let net = |text: &str| text.parse::<IpNet>().expect("a prefix");
        let attachment = |container: &str| Attachment {
            runtime: "docker".to_owned(),
            network: "blue".to_owned(),
            container: container.to_owned(),
            ifname: "eth0".to_owned(),
        };
        let plain = Entry {
            id: EndpointId([2; 32]),
            attachment: attachment("plain"),
            namespace: None,
            addresses: vec![address("10.91.128.2")],
            mac: Mac::local([1, 2, 3, 4, 5]),
            mtu: 1420,
            name: None,
            labels: Labels::new(),
            image: None,
            gateways: vec![address("10.91.128.1")],
            routes: Vec::new(),
            has_egress: false,
            sandbox: Some("/var/run/docker/netns/9a5965a76cee".to_owned()),
            stage: Stage::Wiring,
            since: Timestamp(1_700_000_000),
            boot: BootId([7; 16]),
        };
        let rich = Entry {
            id: EndpointId([3; 32]),
            attachment: attachment("rich"),
            namespace: Some(Namespace { path: "/run/netns/rich".to_owned(), dev: 4, ino: 4_026_532_000 }),
            addresses: vec![address("10.91.128.3"), address("fd91::3")],
            name: Some("rich.blue".to_owned()),
            labels: Labels::from([
                ("app".to_owned(), "sum".to_owned()),
                ("tier".to_owned(), "db".to_owned()),
            ]),
            image: Some(ImageDigest([8; 32])),
            gateways: vec![address("169.254.1.1"), address("fe80::1")],
            routes: vec![net("0.0.0.0/0"), net("fd91::/48")],
            has_egress: true,
            sandbox: None,
            stage: Stage::Attached,
            ..plain.clone()
        };
        let network = Network {
            runtime: "cni".to_owned(),
            network: "pods".to_owned(),
            pool4: Some("10.91.64.0/20".to_owned()),
            pool6: None,
            allocation: Allocation::Blocks,
            egress: Egress::Mesh,
            mtu: None,
            ranges: Vec::new(),
            reach: Reach::Mesh,
            policy: Policing::Required,
        };
        let other = Network {
            runtime: "docker".to_owned(),
            network: "blue".to_owned(),
            pool4: None,
            pool6: Some("fd91:0:0:1::/64".to_owned()),
            allocation: Allocation::Sequential,
            egress: Egress::None,
            mtu: Some(1300),
            ranges: vec!["fd91:0:0:1::/80".to_owned()],
            reach: Reach::Network,
            policy: Policing::Optional,
        };
        let third = Network { network: "green".to_owned(), egress: Egress::Runtime, ..other.clone() };
        Content {
            networks: vec![network, other, third],
            entries: vec![plain, rich],
            reserved: ["10.91.128.9", "fd91::9"]
                .map(|text| Reserved { address: address(text), since: Timestamp(5) })
                .to_vec(),
            blocks: vec![net("10.91.128.0/26"), net("fd91:0:0:1::/112")],
        }
    }
}
