//! Which recovery points the targets have, as far as this source knows: what the last replication
//! that came to its end found there or sent.
//!
//! A person who deletes a point is asked first where a target lacks it. Nothing else rests on this:
//! what is sent is decided by what the target says at the time.

use std::collections::BTreeSet;

use offsite_model::{AgentId, Digest, PointId};
use offsite_proto::admin::source::{Pairing, State};
use offsite_store::catalog::{
    CatalogError, Order, Table, Transactions, TypedRows, TypedRowsMut, Value,
};
use serde::{Deserialize, Serialize};

use crate::memory::Memory;

/// Points at targets: target, agent, point.
const HELD: Table = Table::new("source_held");
/// Rows read at a time.
const PAGE: usize = 1_024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct HeldRow {}

impl Value for HeldRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 16;
}

fn prefix(target: &str, agent: AgentId) -> Vec<u8> {
    [&Digest::of(target.as_bytes()).as_bytes()[..], &agent.to_bytes()].concat()
}

fn key(target: &str, agent: AgentId, point: PointId) -> Vec<u8> {
    [prefix(target, agent), point.to_bytes().to_vec()].concat()
}

/// Remembers which points of an agent a target has, in place of what was remembered. Blocks.
pub(crate) fn note(
    memory: &Memory,
    target: &str,
    agent: AgentId,
    points: &BTreeSet<PointId>,
) -> Result<(), CatalogError> {
    let prefix = prefix(target, agent);
    memory.catalog().write(|rows| {
        let mut known = BTreeSet::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let (last, order) = (after.as_deref(), Order::Ascending);
            let found = rows.scan_values::<HeldRow>(HELD, &prefix, last, order, PAGE)?;
            let Some((last, _)) = found.last() else { break };
            after = Some(last.clone());
            known.extend(found.into_iter().map(|(key, _)| key));
        }
        let wanted: BTreeSet<Vec<u8>> =
            points.iter().map(|point| key(target, agent, *point)).collect();
        for gone in known.difference(&wanted) {
            rows.remove(HELD, gone)?;
        }
        for new in wanted.difference(&known) {
            rows.put_value(HELD, new, &HeldRow {})?;
        }
        Ok(())
    })
}

/// The targets that are to have a point and are not known to have it, as people name them. Blocks.
pub(crate) fn lacking(
    memory: &Memory,
    pairings: &[Pairing],
    (agent, name): (AgentId, &str),
    point: PointId,
) -> Result<Vec<String>, CatalogError> {
    let mut lacking = Vec::new();
    let wants = |pairing: &&Pairing| {
        pairing.state == State::Active && pairing.agents.iter().any(|of| of == name)
    };
    for pairing in pairings.iter().filter(wants) {
        let Some(address) = &pairing.address else { continue };
        let key = key(address, agent, point);
        let row = memory.catalog().read(|rows| rows.value::<HeldRow>(HELD, &key))?;
        if row.is_none() {
            lacking.push(pairing.target.clone().unwrap_or_else(|| address.clone()));
        }
    }
    Ok(lacking)
}
