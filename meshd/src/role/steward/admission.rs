//! Admission, renewal and release of nodes.

use std::net::Ipv4Addr;

use meshd_trust::address::node_addr6;
use meshd_trust::join::{self, RequestRefusal, VerifiedRequest};
use meshd_wire::enrol::{EnrolReply, Refused};
use meshd_wire::name::is_host_name;
use meshd_wire::record::{Label, NodeCert, NodeLeave, VERSION};
use meshd_wire::{Envelope, KeyId, LeafKind, MeshId, PublicKey, Timestamp, TokenId};
use minicbor::bytes::ByteVec;

use super::book::Page;
use super::decide::{self, ADDRESS_REST_S, Entitled};
use super::entry::{Admitted, Hold, Station, TokenUse};
use super::external::{hold_externals, prefixes, release_externals};
use super::{Answer, CHAIN_BYTES_MAX, Declined, STATE_INTERVAL_S, Steward, prefix4};

/// Key that is tried when there is no such token, so that its absence takes as long as its presence.
const NO_TOKEN_KEY: [u8; 32] = [0; 32];

/// Name and labels that an admission gives.
struct Scope<'a> {
    name: &'a str,
    labels: &'a [Label],
}

impl Steward {
    pub(super) fn tell_chain(&mut self, mesh: &MeshId, now: Timestamp) -> Result<Answer, Declined> {
        let station = self.station.as_ref().ok_or(Refused::Unavailable)?;
        if station.mesh != *mesh {
            return Err(Refused::WrongMesh.into());
        }
        let published = self.freshen(now)?;
        let records = self.chain_records();
        Ok(Answer::publishing(EnrolReply::Chain { now, records }, published))
    }

    pub(super) fn enrol(
        &mut self,
        peer: &PublicKey,
        exporter: &[u8; 32],
        id: &TokenId,
        request: &[u8],
        mac: &[u8; 32],
        now: Timestamp,
    ) -> Result<Answer, Declined> {
        let station = self.station.as_ref().ok_or(Refused::Unavailable)?;
        let verified = verify_request(station, request, now)?;
        if verified.request.transport != *peer {
            return Err(Refused::Malformed.into());
        }
        let admitted = self.book.write(|page| {
            let token = page.token(id)?;
            let key = token.as_ref().map_or(&NO_TOKEN_KEY, |token| &token.key);
            let fits = join::proof_fits(key, request, exporter, mac);
            let mut token = token.filter(|_| fits).ok_or(Refused::TokenUnknown)?;
            let (identity, transport) = (verified.request.identity, verified.request.transport);
            match decide::judge_token(&token, &identity, &transport, now)? {
                Entitled::Repetition(node) => {
                    let before = page.node(&node)?.filter(|node| node.revoked_at.is_none());
                    Ok::<_, Declined>(before.ok_or(Refused::NotMember)?)
                }
                Entitled::Admission => {
                    let name = token.name.as_deref().unwrap_or(&verified.request.name);
                    let scope = Scope { name, labels: &token.labels };
                    let admitted = self.certify(page, station, &verified, &scope, now)?;
                    token.used_by = Some(TokenUse { identity, transport, node: verified.node });
                    page.put_token(id, &token)?;
                    Ok(admitted)
                }
            }
        })?;
        self.log_token(LeafKind::TokenUse, *id, now)?;
        tracing::info!(node = %admitted.cert.node.short(), name = admitted.cert.name, "node admitted");
        self.admitted(admitted, verified.keys_envelope, now)
    }

    pub(super) fn admit_file(
        &mut self,
        request: &[u8],
        name: Option<&str>,
        labels: &[Label],
        now: Timestamp,
    ) -> Result<Answer, Declined> {
        let station = self.station.as_ref().ok_or(Refused::Unavailable)?;
        let verified = verify_request(station, request, now)?;
        let labels = decide::scope_labels(station, labels).ok_or(Refused::Malformed)?;
        let scope = Scope { name: name.unwrap_or(&verified.request.name), labels: &labels };
        let admitted = self.book.write(|page| self.certify(page, station, &verified, &scope, now))?;
        tracing::info!(node = %admitted.cert.node.short(), name = admitted.cert.name, "node admitted by file");
        self.admitted(admitted, verified.keys_envelope, now)
    }

    pub(super) fn renew(
        &mut self,
        peer: &PublicKey,
        request: &[u8],
        now: Timestamp,
    ) -> Result<Answer, Declined> {
        let station = self.station.as_ref().ok_or(Refused::Unavailable)?;
        let verified = verify_request(station, request, now)?;
        let admitted = self.book.write(|page| {
            let before = page.node(&verified.node)?.ok_or(Refused::NotMember)?;
            if ![verified.request.transport, before.cert.transport].contains(peer) {
                return Err(Declined::from(Refused::NotMember));
            }
            let scope = Scope { name: &before.cert.name, labels: &before.cert.labels };
            self.certify(page, station, &verified, &scope, now)
        })?;
        tracing::info!(node = %admitted.cert.node.short(), serial = admitted.cert.serial, "node renewed");
        self.admitted(admitted, verified.keys_envelope, now)
    }

    /// Takes back a node that says farewell.
    pub(super) fn release(&mut self, leave: &[u8], now: Timestamp) -> Result<Answer, Declined> {
        let station = self.station.as_ref().ok_or(Refused::Unavailable)?;
        let farewell: NodeLeave = Envelope::from_bytes(leave)
            .and_then(|envelope| envelope.record())
            .map_err(|_| Refused::Malformed)?;
        let published = self.book.write(|page| {
            let Some(mut node) = page.node(&farewell.node)? else { return Err(Refused::NotMember.into()) };
            join::verify_leave(leave, &station.mesh, |_| Some(node.cert.identity))
                .map_err(|_| Refused::Malformed)?;
            if node.revoked_at.is_some() {
                return Ok(Vec::new());
            }
            self.take_back(page, station, &mut node, now)
        })?;
        tracing::info!(node = %farewell.node.short(), "node left");
        // It is gone in any case; what can't be logged now is logged later.
        if let Err(error) = self.log_taken_back(farewell.node, KeyId(farewell.node.0), leave, now) {
            tracing::error!(error = crate::chain::of(&error), "a farewell can't be logged");
        }
        self.take_own(&published.iter().map(Vec::as_slice).collect::<Vec<_>>(), now);
        Ok(Answer::publishing(EnrolReply::Done, published))
    }

    /// Takes back a node that does not say farewell itself, and gives what the mesh must hear.
    ///
    /// `cert` is the newest certificate that the mesh knows: a book from a backup may not have it.
    pub fn revoke(
        &mut self,
        cert: &NodeCert,
        envelope: &[u8],
        now: Timestamp,
    ) -> Result<Vec<Vec<u8>>, Declined> {
        self.wake()?;
        let station = self.station.as_ref().ok_or(Refused::Unavailable)?;
        let published = self.book.write(|page| {
            let known = page.node(&cert.node)?.filter(|known| known.cert.serial >= cert.serial);
            let named = Admitted { cert: cert.clone(), envelope: envelope.to_vec(), revoked_at: None };
            let mut node = known.unwrap_or(named);
            self.take_back(page, station, &mut node, now)
        })?;
        tracing::warn!(node = %cert.node.short(), name = cert.name, "node revoked");
        self.take_own(&published.iter().map(Vec::as_slice).collect::<Vec<_>>(), now);
        let actor = self.seeds.record().key_id();
        if let Some(revocations) = published.first()
            && let Err(error) = self.log_taken_back(cert.node, actor, revocations, now)
        {
            // It acts before it is logged; what can't be logged now is logged later.
            tracing::error!(error = crate::chain::of(&error), "a revocation can't be logged");
        }
        Ok(published)
    }

    /// Counts a node as no member any more; its address rests. Gives the revocations, and the state that names them.
    fn take_back(
        &self,
        page: &Page,
        station: &Station,
        node: &mut Admitted,
        now: Timestamp,
    ) -> Result<Vec<Vec<u8>>, Declined> {
        // Who asks again may ask because nobody has heard of it.
        if node.revoked_at.is_none() {
            node.revoked_at = Some(now);
            page.put_node(node)?;
            let hold = Hold { node: node.cert.node, until: now.plus(ADDRESS_REST_S) };
            page.put_address(u32::from(node.cert.ipv4()), &hold)?;
            page.remove_name(&node.cert.name)?;
            release_externals(page, &node.cert.node, now)?;
        }
        let revocations = self.sign_revocations(page, station, now)?;
        Ok(vec![revocations, self.sign_state(page, now)?])
    }

    /// Gives a node a certificate, or the one it has if nothing would change.
    fn certify(
        &self,
        page: &Page,
        station: &Station,
        verified: &VerifiedRequest,
        scope: &Scope<'_>,
        now: Timestamp,
    ) -> Result<Admitted, Declined> {
        let (node, transport) = (verified.node, verified.request.transport);
        if !is_host_name(scope.name) {
            return Err(Refused::Malformed.into());
        }
        let before = page.node(&node)?;
        let left = before.as_ref().is_some_and(|before| before.revoked_at.is_some());
        let was_revoked = self.log.as_ref().is_some_and(|log| log.has_revoked(&node.into()));
        if left || was_revoked || self.is_taken_back(station, &node) {
            return Err(Refused::NotMember.into());
        }
        if page.name(scope.name)?.is_some_and(|hold| hold.excludes(&node, now)) {
            return Err(Refused::NameTaken.into());
        }
        let addr4 = self.choose_address(page, station, verified, before.as_ref(), now)?;
        let (name, labels) = (scope.name, scope.labels);
        let prefixes = prefixes(station, &page.externals(&node)?.unwrap_or_default());
        if let Some(before) = &before
            && before.cert.ipv4() == addr4
            && before.cert.prefixes == prefixes
            && decide::still_good(&before.cert, name, labels, &transport, station.root_version, now)
        {
            return Ok(before.clone());
        }
        if let Some(before) = before.filter(|before| before.cert.name != name) {
            page.remove_name(&before.cert.name)?;
        }
        let cert = NodeCert {
            version: VERSION,
            node,
            org: station.org,
            root_version: station.root_version,
            // Number and times are given by `issue`.
            serial: 0,
            name: name.to_owned(),
            identity: verified.request.identity,
            transport,
            addr4: addr4.octets(),
            addr6: node_addr6(&station.mesh, station.subnet6, &node).octets(),
            prefixes,
            labels: labels.to_vec(),
            may_attest: Vec::new(),
            not_before: now,
            not_after: now,
        };
        self.issue(page, station, cert, now)
    }

    /// Numbers, dates and signs a certificate, and holds for its node what it says.
    pub(super) fn issue(
        &self,
        page: &Page,
        station: &Station,
        mut cert: NodeCert,
        now: Timestamp,
    ) -> Result<Admitted, Declined> {
        let Some((not_before, not_after)) = decide::cert_times(station, now) else {
            tracing::warn!("the delegation of this steward is not in force");
            return Err(Refused::Unavailable.into());
        };
        (cert.not_before, cert.not_after) = (not_before, not_after);
        cert.root_version = station.root_version;
        cert.serial = decide::next_count(page.serial()?, now);
        let until = not_after.plus(ADDRESS_REST_S);
        let hold = Hold { node: cert.node, until };
        page.put_serial(cert.serial)?;
        page.put_name(&cert.name, &hold)?;
        page.put_address(u32::from(cert.ipv4()), &hold)?;
        hold_externals(page, &cert.node, until)?;
        let envelope = self.sign(station, &cert).to_bytes();
        let admitted = Admitted { cert, envelope, revoked_at: None };
        page.put_node(&admitted)?;
        Ok(admitted)
    }

    /// The address the node has, or the lowest that is free.
    fn choose_address(
        &self,
        page: &Page,
        station: &Station,
        verified: &VerifiedRequest,
        before: Option<&Admitted>,
        now: Timestamp,
    ) -> Result<Ipv4Addr, Declined> {
        if let Some(held) = before.map(|before| before.cert.ipv4())
            && page.address(u32::from(held))?.is_some_and(|hold| hold.node == verified.node)
        {
            return Ok(held);
        }
        let prefix = prefix4(station).ok_or(Refused::Unavailable)?;
        let holds = page.addresses()?;
        let free = decide::lowest_free_address(prefix, holds.into_iter(), &verified.node, now);
        Ok(free.ok_or(Refused::NoAddress)?)
    }

    fn admitted(&mut self, node: Admitted, keys: Vec<u8>, now: Timestamp) -> Result<Answer, Declined> {
        self.log_admitted(&node, &keys, now)?;
        let mut publish = self.freshen(now)?;
        publish.extend([node.envelope.clone(), keys]);
        let reply = EnrolReply::Admitted {
            cert: node.envelope,
            records: self.chain_records(),
            registries: self.registries.clone(),
            stewards: self.stewards.clone(),
        };
        Ok(Answer::publishing(reply, publish))
    }

    /// Signs a new state if the one held is due; a newcomer must get a fresh one.
    pub(super) fn freshen(&mut self, now: Timestamp) -> Result<Vec<Vec<u8>>, Declined> {
        // Only read: a stranger who asks for the chain must not cost a write.
        let signed_at = self.book.state()?.map(|state| state.at);
        if signed_at.is_some_and(|at| at <= now && now.since(at) < STATE_INTERVAL_S) {
            return Ok(Vec::new());
        }
        Ok(vec![self.state(now)?])
    }

    fn chain_records(&self) -> Vec<ByteVec> {
        let mut room = CHAIN_BYTES_MAX;
        let fits = |envelope: &Vec<u8>| {
            // Head of the byte string included.
            let rest = room.checked_sub(envelope.len() + 5);
            room = rest.unwrap_or(0);
            rest.is_some()
        };
        self.chain().into_iter().take_while(fits).map(ByteVec::from).collect()
    }
}

fn verify_request(station: &Station, request: &[u8], now: Timestamp) -> Result<VerifiedRequest, Declined> {
    let verified = join::verify_request(request, &station.mesh, now).map_err(|refusal| match refusal {
        RequestRefusal::OtherMesh(_) => Refused::WrongMesh,
        RequestRefusal::Future { .. } | RequestRefusal::Old { .. } => Refused::Clock,
        RequestRefusal::Malformed(_)
        | RequestRefusal::MalformedKeys(_)
        | RequestRefusal::Signature
        | RequestRefusal::SharedKey
        | RequestRefusal::KeysSignature
        | RequestRefusal::OtherNode
        | RequestRefusal::Name => Refused::Malformed,
    })?;
    if verified.request.org != station.org {
        return Err(Refused::WrongMesh.into());
    }
    Ok(verified)
}
