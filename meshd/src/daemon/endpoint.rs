//! Answers about endpoints, networks and addresses. To undo something on a host without a mesh is a success: with the
//! mesh, all endpoints went.

use meshd_api::{
    ApiError, AttachRequest, CheckReply, CheckRequest, ClaimReply, ClaimRequest, DescribeRequest,
    DetachReply, DetachRequest, Endpoint, Endpoints, ErrorCode, GcReply, GcRequest, KeepReply, KeepRequest,
    NetworkReply, PoliciesReply, PutNetworkRequest, Ready, ReleaseReply, ReleaseRequest, RemoveNetworkReply,
    RemoveNetworkRequest, SetPoliciesRequest,
};

use super::Daemon;
use super::handle::not_member;
use crate::control::Answer;

impl Daemon {
    pub(super) fn attach(&mut self, request: AttachRequest, answer: Answer<Endpoint>) {
        match &mut self.mesh {
            Some(mesh) => mesh.attach(request, answer),
            None => answer.send(Err(not_member())),
        }
    }

    pub(super) fn describe(&mut self, request: &DescribeRequest, answer: Answer<Endpoint>) {
        match &mut self.mesh {
            Some(mesh) => mesh.describe(request, answer),
            None => answer.send(Err(ApiError { code: ErrorCode::NotFound, ..not_member() })),
        }
    }

    pub(super) fn detach(&mut self, request: &DetachRequest, answer: Answer<DetachReply>) {
        match &mut self.mesh {
            Some(mesh) => mesh.detach(request, answer),
            None => answer.send(Ok(DetachReply { detached: 0 })),
        }
    }

    pub(super) fn check(&mut self, request: &CheckRequest, answer: Answer<CheckReply>) {
        match &mut self.mesh {
            Some(mesh) => mesh.check(request, answer),
            None => answer.send(Err(ApiError { code: ErrorCode::NotFound, ..not_member() })),
        }
    }

    pub(super) fn keep(&mut self, request: KeepRequest, answer: Answer<KeepReply>) {
        match &mut self.mesh {
            Some(mesh) => mesh.keep(request, answer),
            None => answer.send(Ok(KeepReply { detached: Vec::new() })),
        }
    }

    pub(super) fn gc(&mut self, request: GcRequest, answer: Answer<GcReply>) {
        match &mut self.mesh {
            Some(mesh) => mesh.gc(request, answer),
            None => answer.send(Ok(GcReply { collected: Vec::new() })),
        }
    }

    pub(super) fn endpoints(&self) -> Endpoints {
        let none = || Endpoints { endpoints: Vec::new() };
        self.mesh.as_ref().map_or_else(none, crate::mesh::Mesh::endpoint_table)
    }

    pub(super) fn put_network(&mut self, request: PutNetworkRequest, answer: Answer<NetworkReply>) {
        match &mut self.mesh {
            Some(mesh) => mesh.put_network(request, answer),
            None => answer.send(Err(not_member())),
        }
    }

    pub(super) fn remove_network(
        &mut self,
        request: &RemoveNetworkRequest,
    ) -> Result<RemoveNetworkReply, ApiError> {
        let none = RemoveNetworkReply { existed: false };
        self.mesh.as_mut().map_or(Ok(none), |mesh| mesh.remove_network(request))
    }

    pub(super) fn claim(&mut self, request: &ClaimRequest, answer: Answer<ClaimReply>) {
        match &mut self.mesh {
            Some(mesh) => mesh.claim(request, answer),
            None => answer.send(Err(not_member())),
        }
    }

    pub(super) fn release(&mut self, request: &ReleaseRequest) -> Result<ReleaseReply, ApiError> {
        let none = ReleaseReply { existed: false };
        self.mesh.as_mut().map_or(Ok(none), |mesh| mesh.release(request))
    }

    pub(super) fn set_policies(&mut self, request: SetPoliciesRequest, answer: Answer<PoliciesReply>) {
        match &mut self.mesh {
            Some(mesh) => mesh.set_policies(request, answer),
            None => answer.send(Err(not_member())),
        }
    }

    pub(super) fn ready(&self) -> Ready {
        let outside = || Ready {
            can_attach: false,
            // Nothing is attached, so nothing is cut off.
            is_connected: true,
            detail: Some(not_member().error),
        };
        self.mesh.as_ref().map_or_else(outside, crate::mesh::Mesh::ready)
    }
}
