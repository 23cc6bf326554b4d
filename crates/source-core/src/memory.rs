//! What survives a restart: who this source is, its agents, its pairings.
//!
//! Rows of the catalog, typed and versioned. Ids are kept as their bytes and times as microseconds, so the
//! layout depends on nothing but this file.
//!
//! **Absent:** private keys; they lie in files of their own ([`crate::install`]).

use std::sync::Arc;

use offsite_model::{AgentId, CoreId, Timestamp, VolumeId};
use offsite_store::catalog::{
    Catalog, CatalogError, Order, Table, Transactions, TypedRows, TypedRowsMut, Value,
};
use serde::{Deserialize, Serialize};

/// Agents of one source.
pub const AGENTS_MAX: usize = 10_000;
/// Volumes of one agent.
pub const VOLUMES_MAX: usize = 256;
/// Pairings that are kept, ended ones included.
pub const PAIRINGS_MAX: usize = 256;

const IDENTITY: Table = Table::new("source_identity");
const AGENTS: Table = Table::new("source_agents");
const PAIRINGS: Table = Table::new("source_pairings");
const SELF: &[u8] = b"self";

/// Who this source is. Written once, by `init`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    core_id: [u8; 16],
    /// The name its operator gave it.
    pub name: String,
    created_micros: i64,
}

impl Identity {
    /// A new identity.
    #[must_use]
    pub const fn new(core_id: CoreId, name: String, now: Timestamp) -> Self {
        Self { core_id: core_id.to_bytes(), name, created_micros: now.as_micros() }
    }

    /// The core id.
    #[must_use]
    pub const fn core_id(&self) -> CoreId {
        CoreId::from_bytes(self.core_id)
    }
}

impl Value for Identity {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 1 << 10;
}

/// A volume of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRow {
    volume_id: [u8; 16],
    /// Its label.
    pub label: String,
    /// The file or block device, absolute.
    pub path: String,
    /// Its size when it was last looked at.
    pub bytes: u64,
}

impl VolumeRow {
    /// A new volume.
    #[must_use]
    pub const fn new(volume_id: VolumeId, label: String, path: String, bytes: u64) -> Self {
        Self { volume_id: volume_id.to_bytes(), label, path, bytes }
    }
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRow {
    agent_id: [u8; 16],
    /// Its name.
    pub name: String,
    /// Its volumes, in the order in which they were named.
    pub volumes: Vec<VolumeRow>,
    created_micros: i64,
}

impl AgentRow {
    /// A new agent.
    #[must_use]
    pub const fn new(
        agent_id: AgentId,
        name: String,
        volumes: Vec<VolumeRow>,
        now: Timestamp,
    ) -> Self {
        Self { agent_id: agent_id.to_bytes(), name, volumes, created_micros: now.as_micros() }
    }

    /// Its id.
    #[must_use]
    pub const fn agent_id(&self) -> AgentId {
        AgentId::from_bytes(self.agent_id)
    }

    /// When it was added.
    #[must_use]
    pub const fn created_at(&self) -> Timestamp {
        Timestamp::from_micros(self.created_micros)
    }

    /// Bytes of all its volumes.
    #[must_use]
    pub fn logical_bytes(&self) -> u64 {
        self.volumes.iter().fold(0, |sum, volume| sum.saturating_add(volume.bytes))
    }
}

impl Value for AgentRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 512 << 10;
}

/// The catalog, as the source uses it. Calls block.
#[derive(Clone)]
pub struct Memory {
    catalog: Arc<dyn Catalog>,
}

impl Memory {
    /// The memory in this catalog.
    #[must_use]
    pub fn new(catalog: Arc<dyn Catalog>) -> Self {
        Self { catalog }
    }

    /// Who this source is, if `init` has been here.
    ///
    /// # Errors
    /// What the catalog says.
    pub fn identity(&self) -> Result<Option<Identity>, CatalogError> {
        self.catalog.read(|rows| rows.value(IDENTITY, SELF))
    }

    /// Writes who this source is.
    ///
    /// # Errors
    /// What the catalog says.
    pub fn set_identity(&self, identity: &Identity) -> Result<(), CatalogError> {
        self.catalog.write(|rows| rows.put_value(IDENTITY, SELF, identity))
    }

    /// All agents, in no promised order.
    ///
    /// # Errors
    /// What the catalog says.
    pub fn agents(&self) -> Result<Vec<AgentRow>, CatalogError> {
        let rows = self
            .catalog
            .read(|rows| rows.scan_values(AGENTS, b"", None, Order::Ascending, AGENTS_MAX))?;
        Ok(rows.into_iter().map(|(_, agent)| agent).collect())
    }

    /// Adds or replaces an agent.
    ///
    /// # Errors
    /// What the catalog says.
    pub fn put_agent(&self, agent: &AgentRow) -> Result<(), CatalogError> {
        self.catalog.write(|rows| rows.put_value(AGENTS, &agent.agent_id, agent))
    }

    /// Forgets an agent.
    ///
    /// # Errors
    /// What the catalog says.
    pub fn remove_agent(&self, agent: AgentId) -> Result<(), CatalogError> {
        self.catalog.write(|rows| rows.remove(AGENTS, &agent.to_bytes()).map(|_| ()))
    }
}
