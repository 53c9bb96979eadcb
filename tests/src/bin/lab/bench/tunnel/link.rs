//! Two hosts at the two ends of one veth link.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_lab::{Host, LINK, Lab, wait};
use nix::sys::signal::Signal;
use serde::Serialize;

use super::traffic::Iperf;

/// Longest Ethernet frame of a 1500-byte link, without its checksum.
const FRAME_LEN: usize = 1514;

/// Frames that are looked at to learn the longest one.
const FRAMES_SEEN: &str = "3000";

/// Bytes of a frame that a capture keeps; only its length matters.
const SNAP_LEN: &str = "64";

const CAPTURE_DEADLINE: Duration = Duration::from_secs(20);

/// How the veth link treats frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// As the kernel makes it: 64 KiB at once, as the card of a server does.
    Offloads,
    /// Without segmentation and receive offloads: every frame is one of at most 1514 bytes.
    TrueFrames,
}

impl Link {
    /// Both kinds, in the order in which they are measured.
    pub const ALL: [Self; 2] = [Self::Offloads, Self::TrueFrames];

    /// Its name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Offloads => "veth with offloads, as the card of a server",
            Self::TrueFrames => "true 1500-byte frames",
        }
    }

    /// Its name in file names.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Offloads => "offloads",
            Self::TrueFrames => "true-frames",
        }
    }
}

/// Two hosts with one link between them, for one system.
#[derive(Debug)]
pub struct Pair {
    /// Where traffic starts.
    pub near: Host,
    /// Where the traffic tools listen.
    pub far: Host,
}

impl Pair {
    /// Makes two hosts of a lab that see nothing but each other.
    pub fn new(lab: &Lab, name: &str, link: Link) -> Result<Self> {
        let pair = Self { near: lab.host(&format!("{name}-a"))?, far: lab.host(&format!("{name}-b"))? };
        let (near, far) = (pair.near.namespace(), pair.far.namespace());
        // The routed internet of a lab would be two more hops.
        near.ip(&format!("link del {LINK}\n"))?;
        far.ip(&format!("link del {LINK}\n"))?;
        near.ip(&format!("link add {LINK} type veth peer name {LINK} netns {}\n", far.name()))?;
        for host in pair.hosts() {
            let address = host.addr4();
            host.namespace().ip(&format!("addr add {address}/16 dev {LINK}\nlink set {LINK} up\n"))?;
            if link == Link::TrueFrames {
                true_frames(host)?;
            }
        }
        Ok(pair)
    }

    /// Both hosts.
    pub fn hosts(&self) -> [&Host; 2] {
        [&self.near, &self.far]
    }

    /// Longest frame that a bulk flow puts on the link, seen at its receiving end.
    pub fn frame_len_max(&self, iperf: &Iperf<'_>) -> Result<usize> {
        let log = self.far.log("tcpdump");
        let options = ["-n", "-e", "-q", "-s", SNAP_LEN, "-c", FRAMES_SEEN, "-Z", "root"];
        let line = [&["tcpdump", "-i", LINK, "-Q", "in"][..], &options].concat();
        let mut tcpdump = self.far.start(&line)?;
        let text = || std::fs::read_to_string(&log).unwrap_or_default();
        wait::until(CAPTURE_DEADLINE, "tcpdump listens", || text().contains("listening on"))?;
        iperf.tcp(1, false, 1)?;
        if tcpdump.ended().is_none() {
            tcpdump.signal(Signal::SIGINT)?;
        }
        tcpdump.wait(CAPTURE_DEADLINE)?;
        let text = text();
        let lengths = text.lines().filter_map(|line| {
            let (_, rest) = line.split_once(", length ")?;
            rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse::<usize>().ok()
        });
        lengths.max().context("see a frame on the link")
    }
}

/// Fails if a link of true frames carried a longer one.
pub fn verify(link: Link, frame_len_max: usize) -> Result<()> {
    ensure!(
        link == Link::Offloads || frame_len_max <= FRAME_LEN,
        "a frame of {frame_len_max} bytes crossed a link of {FRAME_LEN}-byte frames"
    );
    Ok(())
}

fn true_frames(host: &Host) -> Result<()> {
    let off = ["tso", "gso", "gro", "tx-udp-segmentation"];
    let mut line = vec!["ethtool", "-K", LINK];
    off.iter().for_each(|feature| line.extend([*feature, "off"]));
    host.run(&line)?.ok().map(drop)
}
