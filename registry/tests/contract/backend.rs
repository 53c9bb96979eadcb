//! What the suite needs of a server.

use std::net::TcpListener;
use std::time::Duration;

use meshd_registry::{Endpoint, Event, Registry, Watch};

/// Everything the suite's clients may touch.
pub const PREFIX: &str = "/contract/";
/// A wait that takes longer than this has failed.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A server under test; dropping it ends it.
pub trait Backend: Sized {
    async fn start() -> Self;

    /// Where its clients connect.
    fn endpoints(&self) -> Vec<Endpoint>;

    /// The bare protocol, for what the client does not offer.
    async fn raw(&self) -> etcd_client::Client;

    /// Takes away a part that the service must do without, if there is one.
    async fn disturb(&mut self) {}

    /// Kills the server and starts it again on the same data and address.
    async fn restart(&mut self);

    async fn registry(&self) -> Registry {
        Registry::connect(self.endpoints()).await.expect("endpoints are valid")
    }
}

pub fn key(name: impl std::fmt::Display) -> String {
    format!("{PREFIX}{name}")
}

/// A loopback port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("bound socket has an address").port()
}

/// Waits for a future, but not for ever.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// The next event that is about keys, not about the connection.
pub async fn next_change(watch: &mut Watch) -> Event {
    loop {
        match soon("a change", watch.next()).await.expect("a watch does not end") {
            Event::Connected | Event::Disconnected { .. } => {}
            event @ (Event::Put(_) | Event::Delete { .. } | Event::Resync { .. }) => return event,
        }
    }
}
