//! The steward's desk: requests of other hosts, invitations, admissions by file.

use data_encoding::BASE64;
use meshd_api::{AdmitReply, ApiError, ErrorCode, InviteRequest, Labels, RevokeReply, Signed};
use meshd_trust::Standing;
use meshd_wire::enrol::{EnrolReply, EnrolRequest, Refused, RegistryHint};
use meshd_wire::record::{Label, NodeCert};
use meshd_wire::{Envelope, JoinToken};
use std::net::SocketAddr;
use zeroize::Zeroizing;

use super::Mesh;
use super::duties::{Errand, Help};
use crate::discovery::keyspace::Slot;
use crate::enrol::EnrolCall;
use crate::metrics::Counters;
use crate::role::steward::{Answer, InviteError, InviteSpec, Steward};
use crate::state_dir::StateDir;

/// Life of a token when none is asked for: long enough to walk to the other machine.
const TOKEN_TTL_S: u64 = 15 * 60;

impl Mesh {
    /// Answers a host that speaks to this steward.
    pub fn on_enrol(&mut self, call: EnrolCall, counters: &mut Counters) {
        let EnrolCall { peer_key, peer_addr, exporter, request, reply } = call;
        self.advertise();
        let now = self.clock.now();
        let request = match request {
            EnrolRequest::Log { statement } => return self.gather(peer_key, statement, reply),
            request => request,
        };
        let refused =
            |why| Answer { reply: EnrolReply::Refused { why }, publish: Vec::new(), evidence: None };
        let answer = match &mut self.steward {
            _ if self.clock.is_suspect() => refused(Refused::Unavailable),
            _ if is_for_members(&request) && self.holders.of(&peer_key).is_none() => {
                refused(Refused::NotMember)
            }
            Some(steward) => steward.answer(&peer_key, &exporter, &request, now),
            None => refused(Refused::Unavailable),
        };
        let Answer { reply: answer, publish, evidence } = answer;
        *counters.enrolments.entry(outcome(&request, &answer)).or_default() += 1;
        if let EnrolReply::Refused { why } = &answer {
            tracing::warn!(peer = %peer_addr.ip().to_canonical(), ?why, "refused a request to the steward");
        }
        if let Some((org, evidence)) = evidence {
            self.convict(org, evidence);
        }
        // The mesh knows the newcomer before the newcomer knows: its first call to the registry is let in.
        self.take_records(&publish, counters);
        if reply.send(answer).is_err() {
            tracing::debug!("a host left before the steward's answer");
        }
    }

    /// Takes in records that came otherwise than through a registry.
    pub fn take_records(&mut self, records: &[Vec<u8>], counters: &mut Counters) {
        if records.is_empty() {
            return;
        }
        let own_state = Slot::State(self.membership.org);
        for state in records {
            // First: it may show that the clock is right after all.
            if self.authority_slot(state) == Some(own_state)
                && self.roster.accept(state, self.judging_time(own_state, state)).is_ok()
            {
                self.hear_the_time();
            }
        }
        let refused = self.roster.accept_all(records, self.clock.now());
        counters.records_accepted += records.len().saturating_sub(refused.len()) as u64;
        for (_, refusal) in refused {
            *counters.records_refused.entry(refusal.reason()).or_default() += 1;
            if self.may_log_refusal() {
                tracing::warn!(%refusal, reason = refusal.reason(), "refused a record");
            }
        }
        self.commit(counters);
    }

    /// Lets the steward tell newcomers the newest chain, other organisations' words included.
    pub(super) fn merge_chain(&mut self) {
        let now = self.clock.now();
        let Some(steward) = &mut self.steward else { return };
        if let Err(error) = steward.merge(&self.roster.chain(), now) {
            tracing::error!(error = crate::chain::of(&error), "the steward can't store the chain of trust");
        }
    }

    /// Signs the organisation's state, if this host is its head steward.
    pub(super) fn sign_state(&mut self, counters: &mut Counters) {
        if self.steward.is_none() {
            return;
        }
        if self.clock.is_suspect() {
            tracing::warn!("the clock is suspect: no state is signed");
            return;
        }
        if let Err(error) = self.hand_over() {
            tracing::error!(error, "the next keys of the steward can't take office");
        }
        self.sign_anew(counters);
        let now = self.clock.now();
        let Some(steward) = &mut self.steward else { return };
        let revocations = steward.revocations();
        match steward.state(now) {
            Ok(state) => {
                // They come first: a state is in force when what it names is there.
                if let Ok(Some(revocations)) = revocations {
                    self.accept_own(&revocations, counters);
                }
                self.accept_own(&state, counters);
            }
            Err(error) => {
                let error = crate::chain::of(&error);
                tracing::error!(error, "the organisation's state can't be signed");
            }
        }
    }

    fn sign_anew(&mut self, counters: &mut Counters) {
        let now = self.clock.now();
        let Some(steward) = &mut self.steward else { return };
        let signed = steward
            .sign_anew(now)
            .and_then(|anew| Ok([anew, steward.certs_newer_than(&self.roster, now)?].concat()));
        match signed {
            Ok(records) => self.take_records(&records, counters),
            Err(error) => {
                let error = crate::chain::of(&error);
                tracing::error!(error, "what the keys before had signed can't be signed anew");
            }
        }
    }

    /// Renews the certificate of the steward's own host: there is no other steward it could ask.
    pub(super) fn renew_at_own_desk(&mut self, counters: &mut Counters) {
        if self.clock.is_suspect() || self.rotation.signed().is_none() || !self.renewal_is_due() {
            return;
        }
        let (request, now) = (self.renewal_request().request, self.clock.now());
        let own_key = self.membership.secrets.transport().public();
        let Some(steward) = &mut self.steward else { return };
        let answer = steward.answer(&own_key, &[0; 32], &EnrolRequest::Renew { request }, now);
        if let EnrolReply::Refused { why } = answer.reply {
            tracing::error!(?why, "the steward can't renew the certificate of its own host");
            return;
        }
        self.take_records(&answer.publish, counters);
        self.tell_renewed();
    }

    fn tell_renewed(&self) {
        let Some(view) = self.roster.node(&self.node) else { return };
        let not_after = view.cert().not_after;
        tracing::info!(left_s = not_after.since(self.clock.now()), "certificate renewed");
        self.emit(meshd_api::EventKind::CertRenewed { expires_at: not_after.0 });
    }

    /// Makes a token.
    pub fn invite(&mut self, request: InviteRequest) -> Result<JoinToken, ApiError> {
        self.advertise();
        let hints = self.control_addresses();
        let now = self.clock.now();
        let clock_is_suspect = self.clock.is_suspect();
        let steward = self.steward.as_mut().ok_or_else(not_steward)?;
        if clock_is_suspect {
            return Err(refused(Refused::Unavailable));
        }
        let spec = InviteSpec {
            ttl_s: request.ttl_s.unwrap_or(TOKEN_TTL_S),
            name: request.name,
            labels: labels(&request.labels),
        };
        let mut random = Zeroizing::new([0; 24]);
        aws_lc_rs::rand::fill(&mut *random)
            .map_err(|_| ApiError::new(ErrorCode::Internal, "the system gives no random bytes"))?;
        steward.invite(&spec, &hints, now, &random).map_err(|error| {
            let code = match &error {
                InviteError::Ttl | InviteError::Name(_) | InviteError::Labels => ErrorCode::BadRequest,
                InviteError::NoStation | InviteError::NoHint | InviteError::TooMany => ErrorCode::Unavailable,
                InviteError::Book(_) | InviteError::Log(_) => ErrorCode::StorageFailed,
            };
            ApiError::new(code, "no token can be made").with_cause(crate::chain::of(&error))
        })
    }

    /// Admits a host by file.
    pub fn admit(
        &mut self,
        request: &[u8],
        given: &Labels,
        counters: &mut Counters,
    ) -> Result<AdmitReply, ApiError> {
        self.advertise();
        let now = self.clock.now();
        let clock_is_suspect = self.clock.is_suspect();
        let steward = self.steward.as_mut().ok_or_else(not_steward)?;
        if clock_is_suspect {
            return Err(refused(Refused::Unavailable));
        }
        let answer = steward.admit(request, None, &labels(given), now);
        let EnrolReply::Admitted { cert, .. } = &answer.reply else {
            return Err(declined(&answer.reply));
        };
        let cert: NodeCert =
            Envelope::from_bytes(cert).and_then(|envelope| envelope.record()).map_err(|error| {
                ApiError::new(ErrorCode::Internal, "the new certificate can't be read")
                    .with_cause(error.to_string())
            })?;
        self.take_records(&answer.publish, counters);
        Ok(AdmitReply {
            response: Signed(BASE64.encode(&answer.reply.to_bytes())),
            id: cert.node.to_string(),
            addr4: cert.ipv4(),
            addr6: cert.ipv6(),
            cert_expires_at: cert.not_after.0,
            name: cert.name,
        })
    }

    /// Cuts off a node of the own organisation: this host acts at once, and others as soon as they hear of it.
    pub fn revoke(&mut self, node: &str, counters: &mut Counters) -> Result<RevokeReply, ApiError> {
        if self.steward.is_none() {
            return Err(not_steward());
        }
        let (cert, envelope) = {
            let view = self.find_any(node)?;
            (view.cert().clone(), view.cert_envelope().to_vec())
        };
        let (id, name) = (cert.node, cert.name.clone());
        if id == self.node {
            let error = ApiError::new(ErrorCode::BadRequest, "this host is the steward itself");
            return Err(error.with_hint("`meshctl leave --force` ends its membership"));
        }
        if cert.org != self.membership.org {
            let error = ApiError::new(ErrorCode::BadRequest, format!("{name} is of another organisation"));
            return Err(error.with_hint("only the steward of its own organisation can revoke it"));
        }
        let now = self.clock.now();
        let Some(steward) = self.steward.as_mut().filter(|_| !self.clock.is_suspect()) else {
            return Err(refused(Refused::Unavailable));
        };
        let published = steward.revoke(&cert, &envelope, now).map_err(|error| {
            ApiError::new(ErrorCode::StorageFailed, format!("{name} can't be revoked"))
                .with_cause(crate::chain::of(&error))
        })?;
        self.take_records(&published, counters);
        if self.roster.standing(&id, now) != Standing::Revoked {
            return Err(ApiError::new(ErrorCode::Internal, format!("{name} is not revoked"))
                .with_cause("this host refuses its own word; its log says why"));
        }
        Ok(RevokeReply { name, id: id.to_string() })
    }

    /// Takes in what an errand brought.
    pub fn on_errand(
        &mut self,
        errand: Errand,
        help: Option<Help>,
        state: &StateDir,
        counters: &mut Counters,
    ) {
        self.errand_done(errand, help.as_ref().is_some_and(|help| !help.is_halfway));
        let Some(Help { is_halfway: _, records, registries, stewards, claimed }) = help else { return };
        self.take_records(&records, counters);
        if let Some(claimed) = claimed {
            self.take_claimed(&claimed, counters);
        }
        if self.membership.learn(registries, stewards)
            && let Err(error) = self.membership.store(state.path())
        {
            counters.store_failures += 1;
            tracing::error!(error = crate::chain::of(&error), "where stewards are now can't be stored");
        }
        match errand {
            Errand::Renew => self.tell_renewed(),
            Errand::Refresh | Errand::Claim | Errand::Introduce => {}
        }
    }

    /// Tells the steward what newcomers should be told; addresses change.
    fn advertise(&mut self) {
        let stewards: Vec<String> = self.control_addresses().iter().map(ToString::to_string).collect();
        let shared = self.registries_by_now();
        let Some(steward) = &mut self.steward else { return };
        let registries = match shared.as_slice() {
            [] => vec![RegistryHint {
                url: format!("meshd://{}", stewards.join(",")),
                tls_key: Some(steward.public_keys().tls),
            }],
            _ => shared,
        };
        Steward::advertise(steward, registries, stewards);
    }

    /// Where other hosts reach the control port, best first.
    pub fn control_addresses(&self) -> Vec<SocketAddr> {
        let Some(control) = &self.control else { return Vec::new() };
        let mut all: Vec<SocketAddr> = Vec::new();
        for at in self.duties.addresses() {
            let at = SocketAddr::new(at.ip(), control.port());
            if !all.contains(&at) {
                all.push(at);
            }
        }
        all
    }
}

/// Words for a steward's reply that is no admission.
pub fn declined(reply: &EnrolReply) -> ApiError {
    match reply {
        EnrolReply::Refused { why } => refused(*why),
        EnrolReply::Chain { .. }
        | EnrolReply::Admitted { .. }
        | EnrolReply::Done
        | EnrolReply::Claimed { .. }
        | EnrolReply::Logged { .. }
        | EnrolReply::Cosigned { .. }
        | EnrolReply::Witnessed { .. }
        | EnrolReply::Grown { .. }
        | EnrolReply::Copied { .. } => {
            ApiError::new(ErrorCode::Internal, "the steward answered something else than was asked")
        }
    }
}

/// Words for a refusal.
pub fn refused(why: Refused) -> ApiError {
    match why {
        Refused::Malformed => ApiError::new(ErrorCode::RecordRefused, "the steward can't accept the request")
            .with_cause("it can't be read, its signatures do not verify, or its labels are not allowed"),
        Refused::WrongMesh => {
            ApiError::new(ErrorCode::WrongMesh, "the steward serves another mesh or organisation")
        }
        Refused::TokenUnknown => {
            ApiError::new(ErrorCode::TokenUnknown, "the steward does not know this token")
                .with_hint("ask for a new one: `meshctl invite` at the steward")
        }
        Refused::TokenUsed => ApiError::new(ErrorCode::TokenUsed, "the token was used before")
            .with_hint("each host needs its own: `meshctl invite` at the steward"),
        Refused::TokenExpired => ApiError::new(ErrorCode::TokenExpired, "the token has expired")
            .with_hint("ask for a new one: `meshctl invite` at the steward"),
        Refused::Clock => {
            ApiError::new(ErrorCode::ClockOff, "the clocks of this host and of the steward differ too much")
                .with_hint("set the clock and try again with the same token")
        }
        Refused::NameTaken => ApiError::new(ErrorCode::NameTaken, "another node has this name")
            .with_hint("give another one with --name"),
        Refused::NoAddress => {
            ApiError::new(ErrorCode::NoAddress, "no address is left in the organisation's prefix")
        }
        Refused::NotMember => {
            ApiError::new(ErrorCode::Revoked, "the steward does not count this node as a member")
        }
        Refused::Unavailable => ApiError::new(ErrorCode::Unavailable, "the steward can't do this now")
            .with_hint("look at its log: full disk or a suspect clock are the usual reasons"),
    }
}

pub(super) fn not_steward() -> ApiError {
    ApiError::new(ErrorCode::NotSteward, "this host is not a steward")
        .with_hint("run it on the host that founded the mesh: its `meshctl status` shows the role")
}

fn labels(given: &Labels) -> Vec<Label> {
    given.iter().map(|(key, value)| Label { key: key.clone(), value: value.clone() }).collect()
}

/// Whether a stranger is refused unheard: what is in the log concerns who may hold its checkpoints.
fn is_for_members(request: &EnrolRequest) -> bool {
    match request {
        EnrolRequest::Growth { .. } | EnrolRequest::Copy { .. } => true,
        // Whoever has a token may ask, or a steward knows by itself who asks.
        EnrolRequest::Chain { .. }
        | EnrolRequest::Enrol { .. }
        | EnrolRequest::Renew { .. }
        | EnrolRequest::Leave { .. }
        | EnrolRequest::Introduce { .. }
        | EnrolRequest::Claim { .. }
        | EnrolRequest::Log { .. }
        | EnrolRequest::Cosign { .. } => false,
    }
}

/// Label of an answered request for the counters.
pub(super) fn outcome(request: &EnrolRequest, answer: &EnrolReply) -> &'static str {
    match (request, answer) {
        (_, EnrolReply::Refused { why }) => match why {
            Refused::Malformed => "refused-malformed",
            Refused::WrongMesh => "refused-wrong-mesh",
            Refused::TokenUnknown => "refused-token-unknown",
            Refused::TokenUsed => "refused-token-used",
            Refused::TokenExpired => "refused-token-expired",
            Refused::Clock => "refused-clock",
            Refused::NameTaken => "refused-name-taken",
            Refused::NoAddress => "refused-no-address",
            Refused::NotMember => "refused-not-member",
            Refused::Unavailable => "refused-unavailable",
        },
        (EnrolRequest::Chain { .. }, _) => "chain",
        (EnrolRequest::Enrol { .. }, _) => "enrolled",
        (EnrolRequest::Renew { .. }, _) => "renewed",
        (EnrolRequest::Leave { .. }, _) => "left",
        (EnrolRequest::Introduce { .. }, _) => "introduced",
        (EnrolRequest::Claim { .. }, _) => "claimed",
        (EnrolRequest::Log { .. }, _) => "logged",
        (EnrolRequest::Cosign { .. }, EnrolReply::Witnessed { .. }) => "witnessed-before",
        (EnrolRequest::Cosign { .. }, _) => "cosigned",
        (EnrolRequest::Growth { .. }, _) => "grown",
        (EnrolRequest::Copy { .. }, _) => "copied",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_log_is_for_members_and_a_newcomer_is_none_yet() {
        for request in [EnrolRequest::Copy { from: 0 }, EnrolRequest::Growth { old: 1, new: 2 }] {
            assert!(is_for_members(&request), "{request:?}");
        }
        let (token, mac) = (meshd_wire::TokenId([1; 8]), [0; 32]);
        for request in [
            EnrolRequest::Chain { mesh: meshd_wire::MeshId([1; 32]) },
            EnrolRequest::Enrol { token, request: Vec::new(), mac },
        ] {
            assert!(!is_for_members(&request), "{request:?}");
        }
    }
}
