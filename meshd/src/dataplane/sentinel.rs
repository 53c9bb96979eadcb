//! Notices that a data thread has ended although nobody told it to.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::events::Event;
use super::shared::Shared;

/// Held by a thread as long as it runs: a daemon without its packet path must not look alive.
pub(super) struct Sentinel {
    shared: Arc<Shared>,
    thread: &'static str,
}

impl Sentinel {
    pub(super) fn new(shared: Arc<Shared>, thread: &'static str) -> Self {
        Self { shared, thread }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        if !self.shared.stopping.load(Ordering::Acquire) {
            self.shared.events.send(Event::ThreadEnded { thread: self.thread }, &self.shared.counters);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use zeroize::Zeroizing;

    use super::*;
    use crate::dataplane::DataPlaneConfig;
    use crate::io::Udp;

    fn shared() -> Arc<Shared> {
        let config = DataPlaneConfig {
            device: String::new(),
            mtu: None,
            udp_port: 0,
            private_key: Zeroizing::new([1; 32]),
            addr4: (Ipv4Addr::LOCALHOST, 8),
            addr6: (Ipv6Addr::LOCALHOST, 128),
            mesh_prefixes: Vec::new(),
        };
        Arc::new(Shared::new(config, 1420, true, Udp::bind(0).expect("socket")))
    }

    #[test]
    fn a_thread_that_panics_is_noticed_and_one_that_was_stopped_is_not() {
        let shared = shared();
        let mut events = shared.events.subscribe();
        let run = |shared: &Arc<Shared>| {
            let shared = Arc::clone(shared);
            std::thread::spawn(move || {
                let _sentinel = Sentinel::new(shared, "meshd-udp");
                std::panic::resume_unwind(Box::new("a fault"));
            })
        };
        assert!(run(&shared).join().is_err());
        assert_eq!(events.try_recv(), Ok(Event::ThreadEnded { thread: "meshd-udp" }));
        shared.stopping.store(true, Ordering::Release);
        assert!(run(&shared).join().is_err());
        assert!(events.try_recv().is_err());
    }
}
