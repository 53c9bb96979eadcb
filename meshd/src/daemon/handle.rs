//! Answers to what the control API asks.

use data_encoding::BASE64;
use meshd_api::{
    AdmitReply, AdmitRequest, ApiError, ConfigReply, ErrorCode, Externals, ImportRequest, InviteReply,
    InviteRequest, JoinFileReply, JoinFileRequest, JoinRequest, Keys, LeaveReply, LeaveRequest, MemberReply,
    Membership, MeshCreateRequest, Observed, PeerCount, Peers, PingReply, PingRequest, RegistryKind,
    RegistryStatus, RevokeReply, RevokeRequest, Secret, Signed, Status, StewardKeys, StewardRenewRequest,
    StewardReply,
};
use meshd_wire::JoinToken;
use meshd_wire::name::is_host_name;

use super::message::Message;
use super::{Daemon, PendingJoin, errand, forget_membership};
use crate::clock;
use crate::control::{Answer, Command};
use crate::membership::NodeSecrets;
use crate::mesh::{Entry, Founding, Mesh, forget_founding};
use crate::metrics::{Counters, Snapshot, render};

impl Daemon {
    pub(super) async fn on_command(&mut self, command: Command) {
        match command {
            Command::Status(_, answer) => answer.send(self.status()),
            Command::Peers(_, answer) => {
                answer.send(self.member().map(|mesh| Peers { peers: mesh.peers() }));
            }
            Command::Config(_, answer) => answer.send(self.settings()),
            Command::Metrics(answer) => answer.send(self.metrics()),
            Command::Ping(request, answer) => self.ping(&request, answer),
            Command::Invite(request, answer) => answer.send(self.invite(request)),
            Command::Admit(request, answer) => answer.send(self.admit(&request)),
            Command::Revoke(request, answer) => answer.send(self.revoke(&request)),
            Command::Join(request, answer) => self.join(request, answer),
            Command::JoinFile(request, answer) => answer.send(self.join_file(request)),
            Command::Import(request, answer) => {
                let result = self.import(&request).await;
                answer.send(result);
            }
            Command::Leave(request, answer) => self.leave(&request, answer).await,
            Command::AddExternal(request, answer) => self.add_external(&request, answer),
            Command::Externals(_, answer) => {
                answer.send(self.member().map(|mesh| Externals { externals: mesh.external_table() }));
            }
            Command::RemoveExternal(request, answer) => answer.send(self.remove_external(&request)),
            Command::Attach(request, answer) => self.attach(request, answer),
            Command::Describe(request, answer) => self.describe(&request, answer),
            Command::Detach(request, answer) => self.detach(&request, answer),
            Command::Check(request, answer) => self.check(&request, answer),
            Command::Keep(request, answer) => self.keep(request, answer),
            Command::Gc(request, answer) => self.gc(request, answer),
            Command::Endpoints(_, answer) => answer.send(Ok(self.endpoints())),
            Command::PutNetwork(request, answer) => self.put_network(request, answer),
            Command::RemoveNetwork(request, answer) => answer.send(self.remove_network(&request)),
            Command::Networks(_, answer) => answer.send(self.member().map(Mesh::networks)),
            Command::Claim(request, answer) => self.claim(&request, answer),
            Command::Release(request, answer) => answer.send(self.release(&request)),
            Command::SetPolicies(request, answer) => self.set_policies(request, answer),
            Command::Keys(_, answer) => answer.send(self.member().map(|mesh| mesh.keys())),
            Command::Observed(_, answer) => answer.send(self.observed()),
            Command::RotateKey(_, answer) => {
                answer.send(self.turn_key(|mesh, counters| {
                    mesh.rotate_now(counters);
                    Ok(())
                }));
            }
            Command::CompromisedKey(_, answer) => answer.send(self.turn_key(Mesh::keys_are_compromised)),
            Command::Ready(_, answer) => answer.send(Ok(self.ready())),
            Command::StewardPrepare(_, answer) => answer.send(self.steward_keys()),
            Command::Steward(_, answer) => {
                answer.send(self.mesh.as_ref().ok_or_else(not_member).and_then(Mesh::delegation));
            }
            Command::StewardRenew(request, answer) => answer.send(self.renew_steward(&request)),
            Command::MeshCreate(request, answer) => {
                let result = self.found(request).await;
                answer.send(result);
            }
        }
    }

    pub(super) async fn on_message(&mut self, message: Message) {
        match message {
            Message::Joined { token, secrets, result, answer } => {
                self.busy = false;
                let entered = match *result {
                    Ok(joined) => self.enter(Entry::joined(secrets.clone(), joined)).await,
                    Err(error) => Err(errand::join_error(&error)),
                };
                self.tried = entered.is_err().then_some((token, secrets));
                answer.send(entered);
            }
            Message::Left { told, force, cause, answer } => {
                self.busy = false;
                let left = if told || force {
                    self.forget(told).await
                } else {
                    Err(ApiError::new(ErrorCode::StewardUnreachable, "no steward confirmed the farewell")
                        .with_cause(cause.unwrap_or_default())
                        .with_hint(
                            "try again later, or `meshctl leave --force` to forget the mesh here only",
                        ))
                };
                answer.send(left);
            }
            Message::Claimed { node, newcomer, result, answer } => {
                answer.send(self.serve_external(node, newcomer, *result));
            }
            Message::Errand { node, errand, help } => {
                if let Some(mesh) = self.mesh.as_mut().filter(|mesh| mesh.node == node) {
                    mesh.on_errand(errand, help, &self.state, &mut self.counters);
                }
            }
            Message::Logged { node, logged } => {
                if let Some(mesh) = self.mesh.as_mut().filter(|mesh| mesh.node == node) {
                    mesh.on_logged(logged, &mut self.counters);
                }
            }
            Message::Cosigned { node, witness, asked, answer } => {
                if let Some(mesh) = self.mesh.as_mut().filter(|mesh| mesh.node == node) {
                    mesh.on_cosigned(witness, &asked, answer);
                }
            }
            Message::Grown { node, org, asked, answer } => {
                if let Some(mesh) = self.mesh.as_mut().filter(|mesh| mesh.node == node) {
                    mesh.on_grown(org, asked, answer);
                }
            }
            Message::Copied { node, org, from, answer } => {
                if let Some(mesh) = self.mesh.as_mut().filter(|mesh| mesh.node == node) {
                    mesh.on_copied(org, from, answer);
                }
            }
            // Who asks for a mesh that was left finds the answer missing, and may have stopped waiting.
            Message::Learn { node, values, net, reply } => {
                if let Some(mesh) = self.mesh.as_mut().filter(|mesh| mesh.node == node) {
                    let _ = reply.send(mesh.learn_claims(values, net, &mut self.counters));
                }
            }
            Message::Own { node, envelope, reply } => {
                if let Some(mesh) = self.mesh.as_mut().filter(|mesh| mesh.node == node) {
                    let _ = reply.send(mesh.own_claim(&envelope));
                }
            }
        }
    }

    fn member(&self) -> Result<&Mesh, ApiError> {
        self.mesh.as_ref().ok_or_else(not_member)
    }

    fn outside(&self) -> Result<(), ApiError> {
        if let Some(mesh) = &self.mesh {
            let name = mesh.mesh_status().name;
            return Err(ApiError::new(
                ErrorCode::AlreadyMember,
                format!("this host is a member of mesh {name}"),
            )
            .with_hint("`meshctl leave` first, or use another state directory"));
        }
        if self.busy {
            return Err(ApiError::new(ErrorCode::Unavailable, "another join or leave is under way"));
        }
        Ok(())
    }

    fn status(&self) -> Result<Status, ApiError> {
        let none =
            RegistryStatus { kind: RegistryKind::None, endpoints: vec![], connected: false, since: None };
        let base = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.started.elapsed().as_secs(),
            membership: if self.pending.is_some() { Membership::Pending } else { Membership::Outside },
            node: None,
            mesh: None,
            registry: none,
            peers: PeerCount::default(),
            warnings: Vec::new(),
        };
        let Some(mesh) = &self.mesh else { return Ok(base) };
        Ok(Status {
            membership: mesh.standing(),
            node: Some(mesh.node_status()?),
            mesh: Some(mesh.mesh_status()),
            registry: mesh.registry_status(),
            peers: mesh.peer_count(),
            warnings: mesh.warnings(),
            ..base
        })
    }

    fn settings(&self) -> Result<ConfigReply, ApiError> {
        match serde_json::to_value(&self.config.shown) {
            Ok(serde_json::Value::Object(config)) => {
                Ok(ConfigReply { file: self.config_file.clone(), config })
            }
            Ok(_) | Err(_) => Err(ApiError::new(ErrorCode::Internal, "the settings can't be shown")),
        }
    }

    fn metrics(&self) -> Result<String, ApiError> {
        let mut snapshot = Snapshot { uptime_s: self.started.elapsed().as_secs(), ..Snapshot::default() };
        if let Some(mesh) = &self.mesh {
            mesh.measure(&mut snapshot);
        }
        render(&self.counters, &snapshot).map_err(|error| {
            ApiError::new(ErrorCode::Internal, format!("the metrics can't be written: {error}"))
        })
    }

    fn ping(&self, request: &PingRequest, answer: Answer<PingReply>) {
        let found = self.member().and_then(|mesh| {
            let view = mesh.find(&request.target)?;
            if view.id() == mesh.node {
                return Err(ApiError::new(ErrorCode::BadRequest, "that is this host itself"));
            }
            Ok((mesh.plane.clone(), view.id(), view.cert().name.clone(), view.cert().ipv4()))
        });
        let (plane, node, name, address) = match found {
            Ok(found) => found,
            Err(error) => return answer.send(Err(error)),
        };
        let payload_len = request.payload_len;
        // Ends by itself: a ping has a deadline.
        tokio::spawn(async move {
            let result = plane.ping(&node, payload_len).await;
            answer.send(match result {
                Ok(reply) => Ok(PingReply {
                    name,
                    id: node.to_string(),
                    address: address.into(),
                    path: format!("udp {}", reply.path),
                    rtt_us: u64::try_from(reply.rtt.as_micros()).unwrap_or(u64::MAX),
                }),
                Err(error) => Err(errand::ping_error(&name, &error)),
            });
        });
    }

    fn invite(&mut self, request: InviteRequest) -> Result<InviteReply, ApiError> {
        let mesh = self.mesh.as_mut().ok_or_else(not_member)?;
        let token = mesh.invite(request)?;
        Ok(InviteReply {
            id: token.id.to_string(),
            expires_at: token.not_after.0,
            token: Secret(token.to_string()),
        })
    }

    fn admit(&mut self, request: &AdmitRequest) -> Result<AdmitReply, ApiError> {
        let bytes = unsign(&request.request)?;
        let mesh = self.mesh.as_mut().ok_or_else(not_member)?;
        mesh.admit(&bytes, &request.labels, &mut self.counters)
    }

    fn revoke(&mut self, request: &RevokeRequest) -> Result<RevokeReply, ApiError> {
        let mesh = self.mesh.as_mut().ok_or_else(not_member)?;
        mesh.revoke(&request.node, &mut self.counters)
    }

    fn renew_steward(&mut self, request: &StewardRenewRequest) -> Result<StewardReply, ApiError> {
        let root = request.root.as_ref().map(unsign).transpose()?;
        let delegation = unsign(&request.delegation)?;
        let mesh = self.mesh.as_mut().ok_or_else(not_member)?;
        mesh.renew_delegation(root.as_deref(), &delegation, &mut self.counters)
    }

    fn join(&mut self, request: JoinRequest, answer: Answer<MemberReply>) {
        let checked = self.outside().and_then(|()| {
            let token: JoinToken =
                request.token.0.parse().map_err(|error: meshd_wire::token::ParseTokenError| {
                    ApiError::new(ErrorCode::TokenMalformed, "that is no join token")
                        .with_cause(error.to_string())
                        .with_hint("copy the whole token that `meshctl invite` printed")
                })?;
            Ok((token, self.name(request.name)?))
        });
        let checked = checked.and_then(|(token, name)| {
            Mesh::preflight(&self.config)?;
            let secrets = match self.tried.take() {
                Some((tried, secrets)) if tried == token.id => secrets,
                Some(_) | None => self.new_secrets()?,
            };
            Ok((token, name, secrets))
        });
        match checked {
            Ok((token, name, secrets)) => {
                self.busy = true;
                let device = self.config.device.clone();
                errand::join(
                    token,
                    name,
                    secrets,
                    self.config.suites,
                    device,
                    answer,
                    self.inlets.messages.clone(),
                );
            }
            Err(error) => answer.send(Err(error)),
        }
    }

    fn join_file(&mut self, request: JoinFileRequest) -> Result<JoinFileReply, ApiError> {
        self.outside()?;
        let pin = |text: &str, what: &str| {
            let hint = "the administrator of the mesh reads it from `meshctl status`";
            ApiError::new(ErrorCode::BadRequest, format!("`{text}` is no {what} id")).with_hint(hint)
        };
        let mesh = request.mesh.parse().map_err(|_| pin(&request.mesh, "mesh"))?;
        let org = request.org.parse().map_err(|_| pin(&request.org, "organisation"))?;
        let name = self.name(request.name)?;
        let secrets = self.new_secrets()?;
        let now = clock::wall();
        let keys = secrets.sign_keys(&mesh, self.config.suites, now, clock::wall_ms(), now).to_bytes();
        let envelope = secrets.sign_request(mesh, org, name.clone(), keys, now);
        let reply = JoinFileReply {
            request: Signed(BASE64.encode(&envelope.to_bytes())),
            id: secrets.node().to_string(),
            name,
        };
        self.pending = Some(PendingJoin { secrets, mesh, org });
        Ok(reply)
    }

    async fn import(&mut self, request: &ImportRequest) -> Result<MemberReply, ApiError> {
        self.outside()?;
        let bytes = unsign(&request.response)?;
        let Some(pending) = &self.pending else {
            return Err(ApiError::new(
                ErrorCode::BadRequest,
                "this host has made no request that this answers",
            )
            .with_hint("`meshctl join --request FILE` first; a restart of the daemon forgets the request"));
        };
        Mesh::preflight(&self.config)?;
        let PendingJoin { secrets, mesh, org } = pending;
        let entry = Entry::imported(secrets, *mesh, *org, self.config.suites, &bytes, clock::wall())?;
        self.enter(entry).await
    }

    async fn found(&mut self, request: MeshCreateRequest) -> Result<MemberReply, ApiError> {
        self.outside()?;
        Mesh::preflight_steward(&self.config)?;
        let name = self.name(request.name.clone())?;
        let founding = Founding {
            org: request.org.parse().map_err(|_| {
                ApiError::new(ErrorCode::BadRequest, format!("`{}` is no organisation id", request.org))
            })?,
            roots: request.roots.iter().map(unsign).collect::<Result<_, _>>()?,
            genesis: unsign(&request.genesis)?,
            delegations: request.delegations.iter().map(unsign).collect::<Result<_, _>>()?,
            registries: request.registries,
            name,
        };
        let secrets = self.new_secrets()?;
        let founded = match Entry::founded(&self.config, &self.state, secrets, founding, clock::wall()) {
            Ok(entry) => self.enter(entry).await,
            Err(error) => Err(error),
        };
        if founded.is_err() {
            forget_founding(&self.state);
        }
        founded
    }

    /// Stores the membership, then starts the mesh; on failure nothing of it stays.
    async fn enter(&mut self, entry: Entry) -> Result<MemberReply, ApiError> {
        let mesh = Mesh::enter(&self.config, &self.state, entry, &self.inlets, self.events.clone()).await;
        let mut mesh = match mesh {
            Ok(mesh) => mesh,
            Err(error) => {
                if let Err(error) = forget_membership(&self.state) {
                    tracing::error!(error = format!("{error:#}"), "remove what is left of a failed join");
                }
                return Err(error);
            }
        };
        let addresses = mesh.host_addresses(&self.config);
        mesh.on_addresses(addresses, &mut self.counters);
        if let Some(errand) = mesh.on_tick(&mut self.counters) {
            errand::start(&mut mesh, errand, self.inlets.messages.clone());
        }
        let reply = MemberReply { node: mesh.node_status()?, mesh: mesh.mesh_status() };
        tracing::info!(mesh = reply.mesh.name, name = reply.node.name, "joined");
        self.mesh = Some(mesh);
        // A request that waits for its answer is of no use any more.
        self.pending = None;
        Ok(reply)
    }

    async fn leave(&mut self, request: &LeaveRequest, answer: Answer<LeaveReply>) {
        let Some(mesh) = &self.mesh else { return answer.send(Err(not_member())) };
        if self.busy {
            return answer
                .send(Err(ApiError::new(ErrorCode::Unavailable, "another join or leave is under way")));
        }
        if mesh.steward.is_some() {
            if !request.force {
                return answer.send(Err(ApiError::new(
                    ErrorCode::IsSteward,
                    "this host is the steward of its organisation",
                )
                .with_cause("without it no node is admitted or renewed")
                .with_hint("`meshctl leave --force` if the organisation gives the mesh up")));
            }
            let left = self.forget(false).await;
            return answer.send(left);
        }
        self.busy = true;
        errand::leave(mesh, request.force, answer, self.inlets.messages.clone());
    }

    /// Stops the mesh and removes its files.
    async fn forget(&mut self, steward_told: bool) -> Result<LeaveReply, ApiError> {
        let Some(mut mesh) = self.mesh.take() else { return Err(not_member()) };
        let name = mesh.mesh_status().name;
        mesh.stop_endpoints().await;
        let was_steward = mesh.steward.is_some();
        mesh.stop().await;
        let storage = |error: String| {
            ApiError::new(ErrorCode::StorageFailed, "the files of the membership can't be removed")
                .with_cause(error)
        };
        forget_membership(&self.state).map_err(|error| storage(format!("{error:#}")))?;
        if was_steward {
            let removed = [
                std::fs::remove_dir_all(self.state.join("steward")),
                std::fs::remove_file(self.state.join("registry.redb")),
            ];
            for error in removed.into_iter().filter_map(Result::err) {
                if error.kind() != std::io::ErrorKind::NotFound {
                    return Err(storage(error.to_string()));
                }
            }
        }
        tracing::info!(mesh = name, steward_told, "left");
        Ok(LeaveReply { mesh: name, steward_told })
    }

    fn steward_keys(&mut self) -> Result<StewardKeys, ApiError> {
        if let Some(mesh) = &mut self.mesh {
            return mesh.next_steward_keys();
        }
        self.outside()?;
        Mesh::preflight_steward(&self.config)?;
        Mesh::prepare_steward(&self.state)
    }

    fn name(&self, wanted: Option<String>) -> Result<String, ApiError> {
        let name = match wanted.or_else(|| self.config.node_name.clone()) {
            Some(name) => name,
            None => host_name(),
        };
        if is_host_name(&name) {
            return Ok(name);
        }
        Err(ApiError::new(ErrorCode::BadRequest, format!("`{name}` can't name a node"))
            .with_hint("give one of 1 to 63 letters a-z, digits and `-` with --name"))
    }

    fn turn_key(
        &mut self,
        turn: impl FnOnce(&mut Mesh, &mut Counters) -> Result<(), ApiError>,
    ) -> Result<Keys, ApiError> {
        let mesh = self.mesh.as_mut().ok_or_else(not_member)?;
        turn(mesh, &mut self.counters)?;
        Ok(mesh.keys())
    }

    fn observed(&mut self) -> Result<Observed, ApiError> {
        Ok(self.mesh.as_mut().ok_or_else(not_member)?.observed())
    }

    fn new_secrets(&self) -> Result<NodeSecrets, ApiError> {
        let mut random = zeroize::Zeroizing::new([0; NodeSecrets::RANDOM_LEN]);
        aws_lc_rs::rand::fill(&mut *random)
            .map_err(|_| ApiError::new(ErrorCode::Internal, "the system gives no random bytes"))?;
        Ok(NodeSecrets::new(&random))
    }
}

pub(super) fn not_member() -> ApiError {
    ApiError::new(ErrorCode::NotMember, "this host is not a member of a mesh")
        .with_hint("`meshctl mesh create NAME` founds one, `meshctl join TOKEN` enters one")
}

fn unsign(signed: &Signed) -> Result<Vec<u8>, ApiError> {
    BASE64.decode(signed.0.as_bytes()).map_err(|error| {
        ApiError::new(ErrorCode::BadRequest, "a record is not base64").with_cause(error.to_string())
    })
}

/// First label of the host's name, in lower case.
fn host_name() -> String {
    let full = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    full.trim().split('.').next().unwrap_or_default().to_ascii_lowercase()
}
