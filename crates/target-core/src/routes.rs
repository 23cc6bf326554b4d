//! The calls this target serves, one file per conversation, and the routers made of them.
//!
//! **Absent:** who may call (`gate`), what comes of a call (`submit`, `accept`, `drive`).

pub(crate) mod admin;
mod catalog;
mod heal;
mod health;
mod jobs;
mod list_a;
mod pairing;
mod preflight;
mod removal;
mod replication;
mod session;

use std::sync::Arc;

use offsite_proto::endpoint::Listener;
use offsite_proto::operator as list_a_calls;
use offsite_proto::pairing as calls;
use offsite_proto::{
    catalog as catalog_calls, heal as heal_calls, jobs as job_calls, rows, session as session_calls,
};
use offsite_transport::{RouteError, Router, Routes};

use crate::Target;
use crate::gate::ReplicationGate;
use crate::principal::Principal;

impl Target {
    /// The router of the replication listener, behind its gate.
    ///
    /// # Errors
    /// [`RouteError`] where table and handlers do not fit: a mistake of this build.
    pub fn replication_router(
        self: &Arc<Self>,
    ) -> Result<Arc<Router<Self, Principal>>, RouteError> {
        Routes::new(&[rows::ALL], Listener::Replication)
            .mutations(self.mutations().clone())
            .on::<list_a_calls::Healthz>(health::healthz)
            .on::<calls::Validate>(preflight::validate)
            .on::<calls::Greet>(preflight::greet)
            .on::<calls::VerifyPairing>(preflight::verify_pairing)
            .on::<calls::VerifyAgents>(preflight::verify_agents)
            .on::<calls::Submit>(pairing::submit)
            .on::<calls::Sync>(pairing::sync)
            .on::<calls::Unpair>(pairing::unpair)
            .on::<calls::PollResolution>(pairing::poll_resolution)
            .on::<calls::FetchCertificate>(pairing::fetch_certificate)
            .on::<calls::FetchTargetCertificate>(pairing::fetch_target_certificate)
            .on::<catalog_calls::ListConsumedSeedDrives>(catalog::consumed_seed_drives)
            .on::<catalog_calls::ListAgents>(catalog::agents)
            .on::<catalog_calls::ListAgentStorageToo>(catalog::storage_too)
            .on::<catalog_calls::ListVisibleAgentsToo>(catalog::visible_too)
            .on::<catalog_calls::DeleteAgent>(removal::delete_agent)
            .on::<catalog_calls::AskFreeSpace>(catalog::free_space)
            .on::<catalog_calls::AskFreeSpaceToo>(catalog::free_space_too)
            .on::<catalog_calls::ListOrphans>(catalog::orphans)
            .on::<catalog_calls::ListImages>(catalog::images)
            .on::<catalog_calls::VerifyReplication>(catalog::verify)
            .on::<catalog_calls::ListPoints>(catalog::points)
            .on::<catalog_calls::CountPoints>(catalog::count_points)
            .on::<catalog_calls::ListPointsPage>(catalog::points_page)
            .on::<catalog_calls::ListAgentsWithPoints>(catalog::agents_with_points)
            .on::<catalog_calls::ListRepositories>(catalog::repositories)
            .on::<job_calls::Start>(jobs::start)
            .on::<job_calls::Sync>(jobs::sync)
            .on::<session_calls::Open>(session::open)
            .raw(rows::R05.id, session::offer_keys)
            .raw(rows::R06.id, session::send_records)
            .on::<session_calls::TransferredBlocks>(session::transferred)
            .on::<session_calls::TransferredBlocksOfImage>(session::transferred_of_image)
            .on::<session_calls::StartEnd>(session::start_end)
            .on::<session_calls::AskCommitted>(session::poke)
            .on::<session_calls::End>(session::end)
            .on::<heal_calls::ListDamaged>(heal::damaged)
            .raw(rows::H2.id, heal::read_back)
            .finish(
                Arc::clone(self),
                ReplicationGate::new(Arc::clone(self)),
                Arc::clone(&self.world().luck),
            )
    }

    /// Adds list A and liveness to the routes of the operator listener or of the local socket,
    /// whose state knows this target.
    #[must_use]
    pub fn operator_routes<S>(routes: Routes<S, Principal>) -> Routes<S, Principal>
    where
        S: AsRef<Arc<Self>> + Send + Sync + 'static,
    {
        routes
            .on::<list_a_calls::Healthz>(health::healthz)
            .on::<list_a_calls::DecideRequest>(list_a::decide)
            .on::<list_a_calls::ListPending>(list_a::pending)
            .on::<list_a_calls::ListSystems>(list_a::systems)
            .on::<list_a_calls::ListStorage>(list_a::storage)
    }
}
