//! The two ends of the packet path: the overlay device and the UDP sockets, and what wakes their threads.
//!
//! Both ends carry *trains*: runs of equally long packets of one flow that cross the kernel's boundary in one
//! call. What the kernel cannot do is tried at the start and noticed while running; [`Switches`] turns each
//! offload off by hand.

mod events;
mod seam;
mod switches;
mod tun;
mod udp;

pub use events::{Events, Interest, SOURCES_MAX, Waker, Wakeup};
pub use seam::{DatagramSocket, PacketDevice, ReceiveMeta};
pub use switches::{KernelVersion, Switches};
pub use tun::{READ_LEN_MAX, Trains, Tun, TunError, TunGroup, TunQueue};
pub use udp::{BindError, GroupSocket, SEGMENTS_MAX, TRAIN_LEN_MAX, Udp, UdpGroup, UdpTally, segments_max};
