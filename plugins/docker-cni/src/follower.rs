//! Follows Docker, beside its calls: tells meshd what containers are called, and which networks Docker has no more.
//!
//! It is told only that something happened, and then looks at everything: what was missed while it or Docker was down
//! is found with the rest. Without reach to Docker's socket containers have their addresses and no names.

mod identities;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use meshd_api::{
    Attachment, DescribeRequest, Endpoints, ErrorCode, GetEndpoints, GetNetworks, Identity,
    RemoveNetworkRequest,
};
use tokio::time::{Instant, sleep, timeout};

use crate::engine::{Engine, News};
use crate::failure::Failure;
use crate::meshd::{Meshd, RUNTIME, is_refused_as};
use crate::talk;

/// Between two attempts to reach Docker.
const AGAIN: Duration = Duration::from_secs(1);
/// How soon is looked again at what could not be done.
const LOOK_SOON: Duration = Duration::from_secs(5);
/// How often is looked when nothing happens.
const LOOK: Duration = Duration::from_secs(60);
/// How long Docker must not have a network before it is gone: one that is being made is known to meshd first.
const NETWORK_GRACE: Duration = Duration::from_secs(30);

/// What meshd was told last, and what it would not hear.
pub struct Follower {
    engine: Engine,
    meshd: Meshd,
    told: BTreeMap<Attachment, Identity>,
    /// Names that others have, or that are none; each is said once.
    refused: BTreeSet<(Attachment, String)>,
    /// Networks that Docker does not have, and since when.
    missing: BTreeMap<String, Instant>,
    /// What was said about Docker last; said once.
    silent: Option<String>,
}

impl Follower {
    /// Follows Docker at a socket.
    pub fn new(docker: PathBuf, meshd: Meshd) -> Self {
        Self {
            engine: Engine::new(docker),
            meshd,
            told: BTreeMap::new(),
            refused: BTreeSet::new(),
            missing: BTreeMap::new(),
            silent: None,
        }
    }

    /// Goes on for ever.
    pub async fn run(mut self) -> Infallible {
        loop {
            match self.engine.news().await {
                Ok(news) => {
                    self.silent = None;
                    self.listen(news).await;
                }
                Err(failure) => self.complain(&failure),
            }
            // Nobody knows how long a network has been missing meanwhile.
            self.missing.clear();
            sleep(AGAIN).await;
        }
    }

    async fn listen(&mut self, mut news: News) {
        loop {
            let pause = match self.look().await {
                Ok(true) => LOOK,
                Ok(false) => LOOK_SOON,
                Err(failure) => {
                    self.complain(&failure);
                    LOOK_SOON
                }
            };
            if !timeout(pause, news.happened()).await.unwrap_or(true) {
                return;
            }
        }
    }

    /// Looks at everything; whether all is told and nothing waits.
    async fn look(&mut self) -> Result<bool, Failure> {
        // Asked first: what comes up in between is known to Docker then.
        let known = self.meshd.clone().asked().ask_now(&GetEndpoints {}).await?;
        let is_told = self.tell_identities(known).await?;
        let has_none_missing = self.forget_networks().await?;
        self.silent = None;
        Ok(is_told && has_none_missing)
    }

    async fn tell_identities(&mut self, known: Endpoints) -> Result<bool, Failure> {
        let mut known = known.endpoints;
        known.retain(|endpoint| endpoint.attachment.runtime == RUNTIME);
        let there: BTreeSet<&Attachment> = known.iter().map(|endpoint| &endpoint.attachment).collect();
        self.told.retain(|told, _| there.contains(told));
        self.refused.retain(|(refused, _)| there.contains(refused));
        if known.is_empty() {
            return Ok(true);
        }
        let mut is_told = true;
        for (attachment, identity) in identities::of(&self.engine.containers().await?, &known) {
            if self.told.get(&attachment) != Some(&identity) {
                is_told &= self.tell(attachment, identity).await?;
            }
        }
        Ok(is_told)
    }

    /// Tells who an endpoint is; if its name is refused, all but that. Whether all was taken.
    async fn tell(&mut self, attachment: Attachment, identity: Identity) -> Result<bool, Failure> {
        let describe = |identity: &Identity| DescribeRequest {
            attachment: attachment.clone(),
            sandbox: None,
            identity: Some(identity.clone()),
        };
        let told = self.meshd.clone().asked().ask_now(&describe(&identity)).await;
        let (Err(failure), Some(name)) = (&told, &identity.name) else {
            if is_refused_as(&told, ErrorCode::NotFound) {
                return Ok(true);
            }
            told?;
            self.told.insert(attachment, identity);
            return Ok(true);
        };
        // Who has a name may go; what is no name never becomes one.
        let is_final = match failure.code() {
            Some(ErrorCode::NameTaken) => false,
            Some(ErrorCode::BadRequest) => true,
            // It went meanwhile.
            Some(ErrorCode::NotFound) => return Ok(true),
            _ => return told.map(|_| true),
        };
        if self.refused.insert((attachment.clone(), name.clone())) {
            talk::aside(&format!("a container has no name in the mesh: {}", failure.line()));
        }
        let nameless = Identity { name: None, ..identity.clone() };
        self.meshd.clone().asked().ask_now(&describe(&nameless)).await?;
        if is_final {
            self.told.insert(attachment, identity);
        }
        Ok(is_final)
    }

    /// Has meshd forget networks that Docker has no more: it was told so while meshd or this plugin was down. Whether
    /// none is missing.
    async fn forget_networks(&mut self) -> Result<bool, Failure> {
        let known = self.meshd.clone().asked().ask_now(&GetNetworks {}).await?.networks;
        let known = known.into_iter().filter(|network| network.runtime == RUNTIME);
        let known: BTreeSet<String> = known.map(|network| network.network).collect();
        if known.is_empty() {
            self.missing.clear();
            return Ok(true);
        }
        let there: BTreeSet<String> = self.engine.networks().await?.into_iter().collect();
        let now = Instant::now();
        self.missing.retain(|network, _| known.contains(network) && !there.contains(network));
        for network in known.difference(&there) {
            let since = *self.missing.entry(network.clone()).or_insert(now);
            if now.duration_since(since) < NETWORK_GRACE {
                continue;
            }
            let remove = RemoveNetworkRequest { runtime: RUNTIME.to_owned(), network: network.clone() };
            match self.meshd.clone().asked().ask_now(&remove).await {
                Ok(_) => talk::aside(&format!("network {network} is gone from Docker, and now from meshd")),
                // Its last endpoints are being detached.
                Err(failure) if failure.code() == Some(ErrorCode::InUse) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(self.missing.is_empty())
    }

    /// Says what is wrong, unless it was said last.
    fn complain(&mut self, failure: &Failure) {
        let line = failure.line();
        if self.silent.as_ref() != Some(&line) {
            talk::aside(&format!("names and labels of containers are not told: {line}"));
            self.silent = Some(line);
        }
    }
}
