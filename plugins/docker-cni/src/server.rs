//! Serves Docker until the end.

use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::call;
use crate::failure::Failure;
use crate::follower::Follower;
use crate::meshd::Meshd;
use crate::options::Serve;
use crate::socket;
use crate::talk;

/// How long calls may go on that came before the end; none lasts longer.
const END_MAX: Duration = Duration::from_secs(6);

/// Listens, answers, and ends in order at SIGTERM or SIGINT: calls that came are answered.
pub fn run(serve: &Serve) -> Result<(), Failure> {
    let broken = |error: io::Error| Failure::new("no event loop can be made").because(&error);
    let runtime = Builder::new_current_thread().enable_all().build().map_err(broken)?;
    runtime.block_on(async {
        let mut term = signal(SignalKind::terminate()).map_err(broken)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(broken)?;
        let listener = socket::listen(&serve.socket)?;
        let meshd = Meshd::new(serve.daemon_socket.clone());
        let router = call::router(meshd.clone());
        let (end, ended) = oneshot::channel::<()>();
        let serving = axum::serve(listener, router).with_graceful_shutdown(async {
            let _ = ended.await;
        });
        let mut serving = pin!(serving.into_future());
        talk::aside(&format!("ready at {}", serve.socket.display()));
        tell_systemd(sd_notify::NotifyState::Ready);
        let mut following = pin!(Follower::new(serve.docker_socket.clone(), meshd).run());
        tokio::select! {
            never = &mut following => match never {},
            served = &mut serving => {
                return served.map_err(|error| Failure::new("the socket ended").because(&error));
            }
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        tell_systemd(sd_notify::NotifyState::Stopping);
        drop(end);
        // Whoever sends half a call is not waited for.
        let _ = timeout(END_MAX, serving).await;
        Ok(())
    })
}

/// Tells systemd, if it asked to be told.
fn tell_systemd(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        talk::aside(&format!("can't notify systemd: {error}"));
    }
}
