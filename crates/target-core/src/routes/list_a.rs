//! List A: row 60 and its neighbours N2, N3 and N4, on the operator listener and the local socket.

use std::path::Path;
use std::sync::Arc;

use offsite_exchange::pairing::target::Stage;
use offsite_proto::endpoint::Action;
use offsite_proto::error::Refusal;
use offsite_proto::json::Json;
use offsite_proto::operator::{
    Decide, DecideRequest, Decided, ListPending, ListStorage, ListSystems, PendingRequest, Storage,
    System, SystemsShown,
};
use offsite_proto::pairing::{AgentDescription, Resolution};
use offsite_proto::text::Big;
use offsite_transport::{Call, Reply};

use crate::Target;
use crate::accept::{request_object, source_object};
use crate::authority::{permits, sees};
use crate::names::warnings;
use crate::peers::tables::{PeerRow, Role};
use crate::principal::{Principal, TenantScope};
use crate::storage_list;
use crate::target::off_runtime;

/// Row 60.
pub(super) async fn decide<S: AsRef<Arc<Target>>>(
    state: Arc<S>,
    call: Call<DecideRequest, Principal>,
) -> Result<Reply<Json<Decided>>, Refusal> {
    let target = Arc::clone((*state).as_ref());
    let Call { principal, body: Json(decision), .. } = call;
    let decided = off_runtime(move || target.decide(&principal, &bare(decision))).await?;
    Ok(Reply::new(Json(decided)).status(201))
}

/// An empty text is how forms leave something out.
fn bare(mut decision: Decide) -> Decide {
    let given = |text: &String| !text.trim().is_empty();
    decision.check_code = decision.check_code.filter(given);
    decision.digest = decision.digest.filter(given);
    decision.tenant = decision.tenant.filter(given);
    decision
}

/// N2.
pub(super) async fn pending<S: AsRef<Arc<Target>>>(
    state: Arc<S>,
    call: Call<ListPending, Principal>,
) -> Result<Reply<Json<Vec<PendingRequest>>>, Refusal> {
    let target = Arc::clone((*state).as_ref());
    let shown = off_runtime(move || target.pending_for(&call.principal)).await?;
    Ok(Json(shown).into())
}

/// N3.
pub(super) async fn systems<S: AsRef<Arc<Target>>>(
    state: Arc<S>,
    call: Call<ListSystems, Principal>,
) -> Result<Reply<Json<Vec<System>>>, Refusal> {
    let target = Arc::clone((*state).as_ref());
    let shown = off_runtime(move || target.systems_for(&call.principal, call.params)).await?;
    Ok(Json(shown).into())
}

/// N4.
pub(super) async fn storage<S: AsRef<Arc<Target>>>(
    state: Arc<S>,
    call: Call<ListStorage, Principal>,
) -> Result<Reply<Json<Vec<Storage>>>, Refusal> {
    let target = Arc::clone((*state).as_ref());
    let shown = off_runtime(move || target.storages(&call.principal.tenants())).await?;
    Ok(Json(shown).into())
}

impl Target {
    /// The requests that wait, as this caller may see them.
    ///
    /// # Errors
    /// `internal` where the catalog fails.
    pub fn pending_for(&self, principal: &Principal) -> Result<Vec<PendingRequest>, Refusal> {
        let rows = self.register().peers()?;
        let shown = rows.iter().filter(|row| {
            let waits = match row.machine.stage() {
                Stage::Pending(pending) => self.now() < pending.expires_at,
                _ => false,
            };
            waits && permits(principal, Action::ListRequests, &request_object(row)).is_granted()
        });
        Ok(shown.map(|row| self.shown_request(row)).collect())
    }

    /// A request as the pending list shows it.
    pub(crate) fn shown_request(&self, row: &PeerRow) -> PendingRequest {
        let pending = row.pending();
        let asked = row.asked();
        PendingRequest {
            request_id: row.number,
            request_guid: pending.request.into(),
            source_id: asked.core_id.into(),
            source_name: asked.host_name.clone(),
            host: asked.host_name.clone(),
            asset_tag: String::new(),
            address: row.arrival.address.clone(),
            version: asked.version.to_string(),
            status: Resolution::Pending,
            check_code: row.machine.check_code(&self.public_key()).to_string(),
            digest: row.machine.digest(&self.settings().policy_digest()).to_string(),
            agents: asked
                .wish
                .agents
                .iter()
                .map(|agent| AgentDescription {
                    id: agent.id.into(),
                    display_name: agent.display_name.clone(),
                    host_name: agent.host_name.clone(),
                    logical_bytes: Big(agent.logical_bytes),
                })
                .collect(),
            customer_id: asked.wish.customer_id.clone(),
            email: asked.wish.email_address.clone(),
            comment: asked.wish.comments.clone(),
            created_at: pending.created_at.into(),
            expires_at: pending.expires_at.into(),
            locked: pending.is_locked,
            warnings: self.warnings_of(row),
        }
    }

    /// What an operator should know before he believes a request.
    fn warnings_of(&self, row: &PeerRow) -> Vec<String> {
        let asked = row.asked();
        let mut found = warnings("the name of the source", &asked.host_name);
        for agent in &asked.wish.agents {
            found.extend(warnings("the name of an agent", &agent.display_name));
            found.extend(warnings("the host name of an agent", &agent.host_name));
        }
        for (field, text) in [
            ("the customer id", &asked.wish.customer_id),
            ("the e-mail address", &asked.wish.email_address),
            ("the comment", &asked.wish.comments),
        ] {
            found.extend(warnings(field, text));
        }
        found.sort();
        found.dedup();
        found
    }

    /// The systems table, as this caller may see it.
    fn systems_for(
        &self,
        principal: &Principal,
        shown: SystemsShown,
    ) -> Result<Vec<System>, Refusal> {
        let register = self.register();
        let rows = register.peers()?;
        let mut systems = Vec::new();
        for system in register.systems()? {
            let row = rows.iter().find(|row| system.peer == Some(row.number));
            let may_see = match row {
                Some(row) => sees(principal, &source_object(row)),
                None => principal.tenants().is_unbounded(),
            };
            if !may_see {
                continue;
            }
            let last_seen = row.and_then(|row| self.last_seen(row));
            systems.push(System {
                id: system.sid,
                name: system.name.clone(),
                host: system.name.clone(),
                asset_tag: String::new(),
                role: system.role.as_str().to_owned(),
                is_pending: false,
                request_id: row.map(|row| row.number),
                status: row.map_or("managed", status).to_owned(),
                storage_id: row.and_then(|row| row.place.as_ref()).map(|place| place.storage),
                last_seen: last_seen.map(Into::into),
            });
        }
        for row in &rows {
            let is_shown = match row.machine.stage() {
                Stage::Pending(_) => shown.include_pending,
                Stage::Rejected(_) => shown.include_rejected,
                _ => false,
            };
            if is_shown && sees(principal, &request_object(row)) {
                systems.push(pending_system(row));
            }
        }
        Ok(systems)
    }

    /// When a source was last heard of.
    pub fn last_seen(&self, row: &PeerRow) -> Option<offsite_model::Timestamp> {
        let subject = row.place.as_ref()?.subject.0;
        self.register().last_seen(subject).or(row.last_seen.map(|at| at.0))
    }

    fn storages(&self, scope: &TenantScope) -> Result<Vec<Storage>, Refusal> {
        let rows = self.register().look(|rows| storage_list::list(rows))?;
        let files = &self.world().files;
        Ok(rows
            .into_iter()
            .map(|storage| {
                let path = Path::new(&storage.path);
                let sizes = files
                    .bytes_total(path)
                    .and_then(|total| files.bytes_free(path).map(|free| (total, free)));
                let state = if sizes.is_ok() { "online" } else { "offline" };
                let (total, free) = sizes.unwrap_or_default();
                let told = |bytes| Big(storage_list::told_bytes(scope, bytes));
                Storage {
                    storage_id: storage.number.into(),
                    repository_id: storage.repository.to_string(),
                    name: storage.name,
                    kind: "local".to_owned(),
                    bytes_total: told(total),
                    bytes_used: told(total.saturating_sub(free)),
                    bytes_free: told(free),
                    state: state.to_owned(),
                }
            })
            .collect())
    }
}

/// A request as a system with a negative id.
fn pending_system(row: &PeerRow) -> System {
    let name = row.asked().host_name.clone();
    System {
        id: i64::try_from(row.number).map_or(i64::MIN, |number| -number),
        name: name.clone(),
        host: name,
        asset_tag: String::new(),
        role: Role::NonManagedSource.as_str().to_owned(),
        is_pending: matches!(row.machine.stage(), Stage::Pending(_)),
        request_id: Some(row.number),
        status: status(row).to_owned(),
        storage_id: None,
        last_seen: None,
    }
}

/// Where a row stands, in a word.
pub(crate) const fn status(row: &PeerRow) -> &'static str {
    match row.machine.stage() {
        Stage::Pending(_) => "pending",
        Stage::AwaitIssued(_) | Stage::AwaitFirstUse(_) => "accepted",
        Stage::Active(_) => "active",
        Stage::Rejected(_) => "rejected",
        Stage::Expired(_) => "expired",
        Stage::Withdrawn(_) => "withdrawn",
        Stage::Ended(_) => "ended",
    }
}
