//! The registries in use: how each is reached, and whether it answers.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use meshd_api::{ApiError, ErrorCode, EventKind};
use meshd_registry::{Endpoint, EtcdTls, Registry};
use meshd_wire::enrol::RegistryHint;
use meshd_wire::{PublicKey, Timestamp};
use tokio::sync::mpsc;

use super::Mesh;
use crate::config::{Config, RegistryConfig};
use crate::discovery::{Discovery, Finding};
use crate::state_dir::StateDir;
use crate::tls::RawKey;

/// Name of the registry that this host serves itself.
pub const OWN_REGISTRY: &str = "embedded";

/// A registry in use.
pub struct RegistryLink {
    /// Its address for people.
    pub url: String,
    /// The key that its server was named with; it may have others by now.
    pub named: Option<PublicKey>,
    /// Whether it answers; none until it was tried.
    pub connected: Option<bool>,
    /// Since when.
    pub since: Timestamp,
    /// The registry.
    pub registry: Registry,
    /// The task; ends with the link.
    #[expect(dead_code, reason = "held for its end, which is the task's end")]
    pub discovery: Discovery,
}

impl Mesh {
    /// Starts to use the registries of the mesh.
    pub(super) async fn link(
        &mut self,
        config: &Config,
        findings: &mpsc::Sender<(usize, Finding)>,
    ) -> Result<(), ApiError> {
        let mut endpoints = Vec::new();
        let own_key = self.membership.secrets.transport().public().0;
        if let Some(own) = self.control.as_ref().and_then(|control| control.own_registry(own_key)) {
            endpoints.push((OWN_REGISTRY.to_owned(), None, own));
        }
        if let RegistryConfig::Etcd { endpoints: urls, ca, login } = &config.registry {
            let endpoint =
                Endpoint::Etcd { urls: urls.clone(), tls: etcd_tls(ca.as_deref(), login.as_ref())? };
            endpoints.push((urls.join(","), None, endpoint));
        } else {
            for hint in &self.membership.registries {
                endpoints.push((hint_text(hint), hint.tls_key, self.endpoint(hint)?));
            }
        }
        for (url, named, endpoint) in endpoints {
            let registry = Registry::connect(vec![endpoint]).await.map_err(|error| {
                ApiError::new(ErrorCode::BadRequest, format!("registry `{url}` can't be used"))
                    .with_cause(crate::chain::of(&error))
            })?;
            let discovery = Discovery::start(
                self.links.len(),
                self.node,
                registry.clone(),
                self.keyspace.clone(),
                self.published.subscribe(),
                findings.clone(),
            );
            self.links.push(RegistryLink {
                url,
                named,
                connected: None,
                since: self.clock.now(),
                registry,
                discovery,
            });
        }
        Ok(())
    }

    fn endpoint(&self, hint: &RegistryHint) -> Result<Endpoint, ApiError> {
        let Some(rest) = hint.url.strip_prefix("meshd://") else {
            let urls: Vec<String> = hint.url.split(',').map(str::to_owned).collect();
            return Ok(Endpoint::Etcd { urls, tls: None });
        };
        let bad = || ApiError::new(ErrorCode::BadRequest, format!("registry `{}` can't be used", hint.url));
        let at: Vec<SocketAddr> =
            rest.split(',').map(str::parse).collect::<Result<_, _>>().map_err(|_| bad())?;
        let server = hint.tls_key.ok_or_else(bad)?;
        let key = RawKey::from_seed(&self.membership.secrets.transport().seed()).map_err(|_| bad())?;
        let server = (server, self.server_keys.clone());
        Ok(crate::role::registry::remote(hint.url.clone(), at, self.whereabouts.clone(), key, server))
    }

    /// Keys that the server of a registry may have by now.
    pub fn server_keys_after(&self, named: &PublicKey) -> Vec<PublicKey> {
        self.server_keys.after(named)
    }

    /// Lets connections follow the stewards who serve registries to their next keys.
    pub fn follow_servers(&mut self, state: &StateDir) {
        let Self { membership, roster, links, .. } = self;
        let hints = membership.registries.iter().filter_map(|hint| hint.tls_key);
        // A hint may have been renewed since the connection was named.
        let named: BTreeSet<PublicKey> = hints.chain(links.iter().filter_map(|link| link.named)).collect();
        let named: Vec<PublicKey> = named.into_iter().collect();
        let own = membership.org;
        self.servers_unsaved |= membership.bind_servers(&named, |key| roster.org_that_serves(key, &own));
        if self.servers_unsaved {
            match membership.store(state.path()) {
                Ok(()) => self.servers_unsaved = false,
                Err(error) => {
                    let error = crate::chain::of(&error);
                    tracing::debug!(error, "who serves the registries can't be stored");
                }
            }
        }
        let follow = |key| {
            let org = membership.server(&key).and_then(|org| roster.org(&org));
            Some((key, org?.tls_keys())).filter(|(_, keys)| !keys.is_empty())
        };
        self.server_keys.replace(named.into_iter().filter_map(follow).collect());
    }

    /// Registries of the mesh, with the keys of their servers by now.
    pub(super) fn registries_by_now(&self) -> Vec<RegistryHint> {
        let by_now = |hint: &RegistryHint| {
            let org = hint.tls_key.and_then(|key| self.roster.org(&self.membership.server(&key)?));
            let newest = org.and_then(|org| org.head()).map(|head| head.tls_key);
            RegistryHint { url: hint.url.clone(), tls_key: newest.or(hint.tls_key) }
        };
        self.membership.registries.iter().map(by_now).collect()
    }

    /// Notes whether a registry answers, and tells those who watch.
    pub(super) fn on_link(&mut self, index: usize, connected: bool, reason: String) {
        let now = self.clock.now();
        let Some(link) = self.links.get_mut(index) else { return };
        link.connected = Some(connected);
        link.since = now;
        let endpoint = link.url.clone();
        tracing::info!(registry = endpoint, connected, reason, "registry");
        self.emit(if connected {
            EventKind::RegistryConnected { endpoint }
        } else {
            EventKind::RegistryDisconnected { endpoint, reason }
        });
    }
}

/// A hint with its key, as another founder would write it.
fn hint_text(hint: &RegistryHint) -> String {
    match (hint.url.strip_prefix("meshd://"), hint.tls_key) {
        (Some(at), Some(key)) => format!("meshd://{key}@{at}"),
        (Some(_) | None, _) => hint.url.clone(),
    }
}

fn etcd_tls(ca: Option<&Path>, login: Option<&(PathBuf, PathBuf)>) -> Result<Option<EtcdTls>, ApiError> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| {
            ApiError::new(ErrorCode::BadRequest, format!("registry file {} can't be read", path.display()))
                .with_cause(error.to_string())
        })
    };
    let Some(ca) = ca else { return Ok(None) };
    let identity = match login {
        Some((cert, key)) => Some((read(cert)?, read(key)?)),
        None => None,
    };
    Ok(Some(EtcdTls { ca: read(ca)?, identity }))
}
