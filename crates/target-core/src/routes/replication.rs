//! Who calls, and what he has here: asked by every call of the second conversation before anything
//! else.

use std::sync::Arc;

use offsite_model::{AgentId, RepositoryId};
use offsite_proto::endpoint::Action;
use offsite_proto::error::{ErrorCode, Refusal};

use crate::Target;
use crate::authority::{Object, permits};
use crate::peers::tables::PeerRow;
use crate::principal::{PairedPeer, Principal};
use crate::replicas::{Caller, Owner, Replicas};

/// A paired source and its pairing, as they are now.
pub(super) struct Known {
    pub(super) replicas: Arc<Replicas>,
    pub(super) owner: Owner,
    pub(super) repository: RepositoryId,
    row: PeerRow,
    principal: Principal,
}

pub(super) const NO_AGENT: &str = "there is no such agent";

impl Known {
    /// The caller. Blocks.
    pub(super) fn of(target: &Target, principal: &Principal) -> Result<Self, Refusal> {
        let Principal::Source(peer) = principal else {
            return Err(Refusal::new(ErrorCode::Forbidden, "the caller may not do this"));
        };
        let ended = || Refusal::new(ErrorCode::NotPaired, "the pairing has ended");
        let row = target.register().of_subject(peer.source())?.ok_or_else(ended)?;
        row.paired().ok_or_else(ended)?;
        let repository = row.place.as_ref().ok_or_else(ended)?.repository.0;
        let replicas = target.replicas()?;
        let owner = owner_of(peer);
        let known = Self { replicas, owner, repository, row, principal: principal.clone() };
        known.replicas.quotas.set(&owner, known.quota_bytes());
        Ok(known)
    }

    fn quota_bytes(&self) -> Option<u64> {
        self.row.paired().and_then(|paired| paired.acceptance.grants.quota_bytes)
    }

    fn is_accepted(&self, agent: AgentId) -> bool {
        self.row.paired().is_some_and(|paired| {
            paired
                .acceptance
                .grants
                .agents
                .iter()
                .any(|decided| decided.id == agent && decided.is_accepted)
        })
    }

    /// The caller, for a session of this agent.
    pub(super) fn caller(&self, agent: AgentId) -> Caller {
        Caller {
            owner: self.owner,
            is_agent_known: self.agent(agent).is_ok(),
            quota_bytes: self.quota_bytes(),
        }
    }

    /// Lets the call go on if the agent is an accepted one of the caller's.
    pub(super) fn agent(&self, agent: AgentId) -> Result<(), Refusal> {
        let object = Object::Agent {
            source: self.owner.source,
            tenant: self.owner.tenant,
            approved: self.is_accepted(agent),
        };
        let verdict = permits(&self.principal, Action::Replicate, &object);
        // Not accepted, not yours and not there are one answer.
        match verdict.is_granted() {
            true => Ok(()),
            false => Err(Refusal::new(ErrorCode::AgentUnknown, NO_AGENT)),
        }
    }

    /// The accepted agents: id, name, host name.
    pub(super) fn agents(&self) -> Vec<(AgentId, String, String)> {
        let wished = &self.row.asked().wish.agents;
        let accepted = wished.iter().filter(|agent| self.is_accepted(agent.id));
        accepted
            .map(|agent| (agent.id, agent.display_name.clone(), agent.host_name.clone()))
            .collect()
    }
}

const fn owner_of(peer: &PairedPeer) -> Owner {
    Owner { tenant: peer.tenant(), source: peer.source() }
}
