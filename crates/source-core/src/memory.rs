//! What survives a restart: who this source is, its agents, its pairings.
//!
//! Rows of the catalog, typed and versioned. Ids are kept as their bytes and times as microseconds,
//! so the layout depends on nothing but this file.
//!
//! **Absent:** private keys; they lie in files of their own ([`crate::install`]).

use std::sync::Arc;

use offsite_exchange::pairing::PublicKey;
use offsite_exchange::pairing::source::Source;
use offsite_model::{AgentId, CoreId, Timestamp, VolumeId};
use offsite_store::catalog::{
    Catalog, CatalogError, Order, Table, Transactions, TypedRows, TypedRowsMut, Value,
};
use serde::{Deserialize, Serialize};

use crate::event::PairingNumber;

/// Agents of one source.
pub const AGENTS_MAX: usize = 10_000;
/// Volumes of one agent.
pub const VOLUMES_MAX: usize = 256;
/// Pairings that are kept, ended ones included.
pub const PAIRINGS_MAX: usize = 256;

const IDENTITY: Table = Table::new("source_identity");
const AGENTS: Table = Table::new("source_agents");
const PAIRINGS: Table = Table::new("source_pairings");
const HOOKS: Table = Table::new("source_hooks");
const TARGET_NAMES: Table = Table::new("source_target_names");
const SELF: &[u8] = b"self";
const PREPARED: &[u8] = b"prepared key";

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

    /// Its id, the same in all recovery points.
    #[must_use]
    pub const fn volume_id(&self) -> VolumeId {
        VolumeId::from_bytes(self.volume_id)
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

/// The hooks of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HooksRow {
    /// The program that runs before its volumes are read.
    pub before: Option<String>,
    /// The program that runs after.
    pub after: Option<String>,
    /// Seconds that each may take.
    pub timeout_seconds: u32,
    /// Whether a point is made although a hook failed.
    pub proceed_on_failure: bool,
}

impl Value for HooksRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 16 << 10;
}

/// A pairing: the machine's stage and what people called things when it began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairingRow {
    /// The machine, as it left its last step.
    pub machine: Source,
    /// The target, `HOST:PORT`; some stages have forgotten it.
    pub target: String,
    target_core: Option<[u8; 16]>,
    agents: Vec<[u8; 16]>,
    /// A sentence to go with the state, such as the operator's word on an acceptance.
    pub remark: Option<String>,
    created_micros: i64,
}

impl PairingRow {
    /// A pairing that begins.
    #[must_use]
    pub fn new(machine: Source, target: String, agents: &[AgentId], now: Timestamp) -> Self {
        let agents = agents.iter().map(|agent| agent.to_bytes()).collect();
        let created_micros = now.as_micros();
        Self { machine, target, target_core: None, agents, remark: None, created_micros }
    }

    /// The agents of the pairing.
    #[must_use]
    pub fn agents(&self) -> Vec<AgentId> {
        self.agents.iter().copied().map(AgentId::from_bytes).collect()
    }

    /// Sets the agents of the pairing.
    pub fn set_agents(&mut self, agents: &[AgentId]) {
        self.agents = agents.iter().map(|agent| agent.to_bytes()).collect();
    }

    /// The target's core id, once it was told.
    #[must_use]
    pub fn target_core(&self) -> Option<CoreId> {
        self.target_core.map(CoreId::from_bytes)
    }

    /// Remembers the target's core id beyond the stages that hold it.
    pub fn set_target_core(&mut self, core: CoreId) {
        self.target_core = Some(core.to_bytes());
    }
}

impl Value for PairingRow {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 1 << 20;
}

/// What a target calls itself, by the number of the pairing.
#[derive(Serialize, Deserialize)]
struct TargetName(String);

impl Value for TargetName {
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = 1 << 10;
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

    /// The rows, for tables of other modules.
    pub(crate) fn catalog(&self) -> &dyn Catalog {
        &*self.catalog
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

    /// All pairings, the oldest first.
    ///
    /// # Errors
    /// What the catalog says.
    pub fn pairings(&self) -> Result<Vec<(PairingNumber, PairingRow)>, CatalogError> {
        let rows = self.catalog.read(|rows| {
            rows.scan_values::<PairingRow>(PAIRINGS, b"", None, Order::Ascending, PAIRINGS_MAX)
        })?;
        rows.into_iter()
            .map(|(key, row)| {
                let number = <[u8; 4]>::try_from(key.as_slice())
                    .map_err(|_| CatalogError::Damaged("a pairing has no number".to_owned()))?;
                Ok((PairingNumber(u32::from_be_bytes(number)), row))
            })
            .collect()
    }

    /// Keeps a pairing as it is now.
    ///
    /// # Errors
    /// What the catalog says.
    pub fn put_pairing(&self, number: PairingNumber, row: &PairingRow) -> Result<(), CatalogError> {
        self.catalog.write(|rows| rows.put_value(PAIRINGS, &number.0.to_be_bytes(), row))
    }

    /// The name that a target has told, if it did.
    ///
    /// # Errors
    /// What the catalog says.
    pub fn target_name(&self, number: PairingNumber) -> Result<Option<String>, CatalogError> {
        let key = number.0.to_be_bytes();
        let name = self.catalog.read(|rows| rows.value::<TargetName>(TARGET_NAMES, &key))?;
        Ok(name.map(|TargetName(name)| name))
    }

    /// Keeps the name that a target has told.
    ///
    /// # Errors
    /// What the catalog says.
    pub fn set_target_name(&self, number: PairingNumber, name: &str) -> Result<(), CatalogError> {
        let (key, name) = (number.0.to_be_bytes(), TargetName(name.to_owned()));
        self.catalog.write(|rows| rows.put_value(TARGET_NAMES, &key, &name))
    }

    /// Forgets a pairing.
    ///
    /// # Errors
    /// What the catalog says.
    pub fn remove_pairing(&self, number: PairingNumber) -> Result<(), CatalogError> {
        self.catalog.write(|rows| {
            rows.remove(TARGET_NAMES, &number.0.to_be_bytes())?;
            rows.remove(PAIRINGS, &number.0.to_be_bytes()).map(|_| ())
        })
    }

    /// Keeps the public half of the key that `init` made for the first pairing.
    ///
    /// # Errors
    /// What the catalog says.
    pub fn set_prepared_key(&self, key: &PublicKey) -> Result<(), CatalogError> {
        self.catalog.write(|rows| rows.put(IDENTITY, PREPARED, key.as_der()))
    }

    /// The key that `init` made, if it is still unused.
    ///
    /// # Errors
    /// What the catalog says.
    pub fn prepared_key(&self) -> Result<Option<PublicKey>, CatalogError> {
        self.catalog.read(|rows| Ok(rows.get(IDENTITY, PREPARED)?.map(PublicKey::from_der)))
    }

    /// The key that `init` made, if it is still unused. From now on it counts as used, so that no
    /// two pairings can ever share it; a crash before it is put to use costs nothing but that
    /// another key is made.
    ///
    /// # Errors
    /// What the catalog says.
    pub fn take_prepared_key(&self) -> Result<Option<PublicKey>, CatalogError> {
        self.catalog.write(|rows| {
            let key = rows.get(IDENTITY, PREPARED)?.map(PublicKey::from_der);
            rows.remove(IDENTITY, PREPARED)?;
            Ok(key)
        })
    }

    /// Forgets an agent and its hooks.
    ///
    /// # Errors
    /// What the catalog says.
    pub fn remove_agent(&self, agent: AgentId) -> Result<(), CatalogError> {
        self.catalog.write(|rows| {
            rows.remove(HOOKS, &agent.to_bytes())?;
            rows.remove(AGENTS, &agent.to_bytes()).map(|_| ())
        })
    }

    /// The hooks of an agent, if it has any.
    ///
    /// # Errors
    /// What the catalog says.
    pub fn hooks(&self, agent: AgentId) -> Result<Option<HooksRow>, CatalogError> {
        self.catalog.read(|rows| rows.value(HOOKS, &agent.to_bytes()))
    }

    /// Sets the hooks of an agent.
    ///
    /// # Errors
    /// What the catalog says.
    pub fn set_hooks(&self, agent: AgentId, hooks: &HooksRow) -> Result<(), CatalogError> {
        self.catalog.write(|rows| rows.put_value(HOOKS, &agent.to_bytes(), hooks))
    }
}
