//! The control socket: made with the right mode, served with bounds, closed to strangers.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::unistd::Gid;
use tokio::net::{UnixListener, UnixStream};

use super::caller;

/// A caller that does not finish its header holds one connection at most this long.
const HEADER_DEADLINE: Duration = Duration::from_secs(5);
/// Connections of one user at a time; one caller can't lock the others out.
const CONNECTIONS_PER_USER_MAX: usize = 64;

/// Reports a control socket that can't be made.
#[derive(Debug, thiserror::Error)]
#[error("{what} control socket {}", path.display())]
pub struct ListenError {
    what: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The bound socket; its file goes with this value.
#[derive(Debug)]
pub struct ControlListener {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlListener {
    /// Binds the socket; a file left by a dead daemon is replaced. `group` may use it beside root.
    pub fn bind(path: &Path, group: Option<Gid>) -> Result<Self, ListenError> {
        let error = |what| {
            let path = path.to_owned();
            move |source| ListenError { what, path, source }
        };
        if let Some(dir) = path.parent()
            && !dir.as_os_str().is_empty()
        {
            fs::create_dir_all(dir).map_err(error("create the directory of"))?;
        }
        // The state directory is locked, so no living daemon of ours answers here.
        if fs::symlink_metadata(path).is_ok() {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(error("bind")(io::ErrorKind::AddrInUse.into()));
            }
            fs::remove_file(path).map_err(error("replace"))?;
        }
        let listener = UnixListener::bind(path).map_err(error("bind"))?;
        let mode = if group.is_some() { 0o660 } else { 0o600 };
        if let Some(gid) = group {
            chown(path, None, Some(gid.as_raw())).map_err(error("hand over"))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(error("close"))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Accepts for ever; each connection is a task that ends with this future.
    ///
    /// Callers who may not ask get `refusal` to hear.
    pub async fn serve(self, router: Router, refusal: Router) {
        let users = Arc::new(Users::default());
        let mut connections = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        if let Some((guest, allowed)) = admit(&stream, &users) {
                            let router = if allowed { router.clone() } else { refusal.clone() };
                            connections.spawn(serve_connection(stream, router, guest));
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "accept on the control socket");
                        // Out of descriptors: give running calls a moment to end.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

impl Drop for ControlListener {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "remove the control socket");
        }
    }
}

/// Counts a caller, and says whether it may ask.
fn admit(stream: &UnixStream, users: &Arc<Users>) -> Option<(Guest, bool)> {
    let cred = match stream.peer_cred() {
        Ok(cred) => cred,
        Err(error) => {
            tracing::warn!(%error, "read the credentials of a caller");
            return None;
        }
    };
    let allowed = caller::is_allowed(&cred);
    if !allowed {
        tracing::warn!(uid = cred.uid(), "refused a caller that is neither root nor of the group");
    }
    users.enter(cred.uid()).map(|guest| (guest, allowed))
}

async fn serve_connection(stream: UnixStream, router: Router, guest: Guest) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "control connection");
    }
    drop(guest);
}

/// Counts connections by user.
#[derive(Debug, Default)]
struct Users(Mutex<BTreeMap<u32, usize>>);

impl Users {
    fn enter(self: &Arc<Self>, uid: u32) -> Option<Guest> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(uid).or_default();
        if *count >= CONNECTIONS_PER_USER_MAX {
            tracing::warn!(uid, "refused a connection: too many of one user");
            return None;
        }
        *count += 1;
        Some(Guest { users: Arc::clone(self), uid })
    }
}

/// One counted connection.
#[derive(Debug)]
struct Guest {
    users: Arc<Users>,
    uid: u32,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = self.users.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.uid);
            }
        }
    }
}
