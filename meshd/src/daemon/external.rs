//! Answers about the plain WireGuard peers that this node serves.

use meshd_api::{
    AddExternalReply, AddExternalRequest, ApiError, ErrorCode, RemoveExternalReply, RemoveExternalRequest,
};
use meshd_wire::NodeId;

use super::handle::not_member;
use super::{Daemon, errand};
use crate::control::Answer;
use crate::enrol::{Claimed, StewardCallError};
use crate::mesh::{Newcomer, Wanted, claim_error};

impl Daemon {
    /// Serves a plain WireGuard peer, once a steward has given it addresses.
    pub(super) fn add_external(&mut self, request: &AddExternalRequest, answer: Answer<AddExternalReply>) {
        let Some(mesh) = &mut self.mesh else { return answer.send(Err(not_member())) };
        let newcomer = match mesh.wanted_external(request) {
            Ok(Wanted::New(newcomer)) => newcomer,
            Ok(Wanted::Served(reply)) => return answer.send(Ok(*reply)),
            Err(error) => return answer.send(Err(error)),
        };
        if mesh.claiming {
            let error = ApiError::new(ErrorCode::Unavailable, "another external is being added");
            return answer.send(Err(error.with_hint("run it again")));
        }
        let claim = mesh.external_claim(Some(&newcomer));
        if mesh.steward.is_none() {
            mesh.claiming = true;
            return errand::claim(mesh, newcomer, claim, answer, self.inlets.messages.clone());
        }
        let node = mesh.node;
        let result = mesh.claim_at_own_desk(claim, &mut self.counters);
        let result = result.unwrap_or(Err(StewardCallError::NoSteward));
        answer.send(self.serve_external(node, newcomer, result));
    }

    /// Serves a newcomer with what a steward gave.
    pub(super) fn serve_external(
        &mut self,
        node: NodeId,
        newcomer: Newcomer,
        result: Result<Claimed, StewardCallError>,
    ) -> Result<AddExternalReply, ApiError> {
        let mesh = self.mesh.as_mut().filter(|mesh| mesh.node == node).ok_or_else(not_member)?;
        mesh.claiming = false;
        match result {
            Ok(claimed) => mesh.serve(newcomer, claimed, &mut self.counters),
            Err(error) => Err(claim_error(newcomer.name(), &error)),
        }
    }

    /// Serves a plain WireGuard peer no longer.
    pub(super) fn remove_external(
        &mut self,
        request: &RemoveExternalRequest,
    ) -> Result<RemoveExternalReply, ApiError> {
        self.mesh.as_mut().ok_or_else(not_member)?.remove_external(&request.name)
    }
}
