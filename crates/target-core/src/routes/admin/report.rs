//! `storage report`: whose space it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use offsite_model::AgentId;
use offsite_proto::admin::report::{AgentUsage, StorageReport, StoreUsage, TenantUsage};
use offsite_proto::endpoint::Action;
use offsite_proto::error::Refusal;
use offsite_proto::text::{Big, Text};
use offsite_store::TenantSpace;
use offsite_transport::{RawCall, RawReply};
use offsite_upkeep::figures;

use super::context::Operators;
use super::kept::Kept;
use super::sources::all_kept;
use super::stream::{Shown, told_as_it_goes};
use crate::authority::{Object, sees};
use crate::keeper::failed;
use crate::principal::{Principal, TenantScope};
use crate::tenants::{self, TenantRow};

/// Accounts for the space of every tenant that the caller sees.
pub(super) async fn report(
    state: Arc<Operators>,
    call: RawCall<Principal>,
) -> Result<RawReply, Refusal> {
    let (by, target) = (call.principal.clone(), Arc::clone(&state.target));
    Ok(told_as_it_goes(target, &call, move |shown| reported(&state, &by, shown)))
}

fn reported(state: &Operators, by: &Principal, shown: &Shown) -> Result<StorageReport, Refusal> {
    let replicas = state.target.replicas()?;
    let store = &replicas.store;
    let kept = all_kept(state, by, Action::ListPoints)?;
    let rows = state.read(|rows| tenants::list(rows))?;
    let mut tenants = Vec::new();
    for row in rows.iter().filter(|row| sees(by, &Object::Tenant(row.id))) {
        shown.show("accounting", 0, 0);
        let space = store.account(row.id, &mut || !state.target.is_stopping());
        let space = space.map_err(|error| failed(&error))?;
        let own = kept.iter().filter(|kept| kept.owner.tenant == row.id);
        let names: BTreeMap<AgentId, &Kept> = own.map(|kept| (kept.agent, kept)).collect();
        tenants.push(usage(row, &space, &names));
    }
    let store = match by.tenants() {
        TenantScope::All => Some(StoreUsage {
            bytes: Big(store.bytes_in_all()),
            bytes_free: Big(store.bytes_free().map_err(|error| failed(&error))?),
            forecast: figures::forecast(&figures::figures(store).map_err(|error| failed(&error))?),
        }),
        TenantScope::Only(_) => None,
    };
    Ok(StorageReport { tenants, store })
}

fn usage(row: &TenantRow, space: &TenantSpace, names: &BTreeMap<AgentId, &Kept>) -> TenantUsage {
    let agents = space.agents.iter().map(|(id, agent)| {
        let known = names.get(id);
        AgentUsage {
            source: known.map_or_else(String::new, |kept| kept.source_name.clone()),
            agent: known.map_or_else(|| id.to_string(), |kept| kept.name.clone()),
            agent_id: Text(*id),
            points: agent.n_points,
            deleted: agent.n_deleted,
            logical_bytes: Big(agent.logical_bytes),
            exclusive_bytes: Big(agent.exclusive_bytes),
            shared_bytes: Big(agent.shared_bytes),
        }
    });
    TenantUsage {
        tenant: row.name.clone(),
        tenant_id: Text(row.id),
        quota_bytes: row.quota_bytes.map(Big),
        bytes: Big(space.bytes),
        shared_bytes: Big(space.shared_bytes),
        list_bytes: Big(space.list_bytes),
        other_bytes: Big(space.other_bytes),
        agents: agents.collect(),
    }
}
