//! A volume of a recovery point, read back: every record compared with its key, in order of
//! offsets.
//!
//! Decision: each core has a small loop of its own over `Store::plan` and `Fetch`, since crates of
//! one layer cannot name each other and the store has no threads; what is shared is what must not
//! differ: plan, fetch and check.
//!
//! **Absent:** files to write (the program), the daemon: a store is opened by one process alone.

use std::path::Path;
use std::sync::Arc;

use offsite_model::{AgentId, Key, PointId, TenantId, VolumeId};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_store::catalog::RedbCatalog;
use offsite_store::{Image, ListEntry, Settings as StoreSettings, Store, StoreError};
use offsite_transport::Mutations;

use crate::World;
use crate::config::Settings;
use crate::failure::Failure;
use crate::peers::Register;
use crate::replicas::{Owner, PointShown, Replicas};
use crate::target::CATALOG_FILE;

/// Bytes that are put together before they are handed on.
const WINDOW_BYTES: usize = 4 << 20;

/// What comes next of a volume.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Bytes.
    Bytes(&'a [u8]),
    /// So many zeros.
    Zeros(u64),
}

/// A volume of a recovery point, open for reading.
pub struct Content {
    store: Store,
    tenant: TenantId,
    image: Image,
    /// The point.
    pub point: PointId,
}

/// What an operator names.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// An agent: its id, `SOURCE/NAME`, or a name that only one has.
    pub agent: &'a str,
    /// A volume: its label or its id.
    pub volume: &'a str,
    /// A point: its id, or `latest`.
    pub point: &'a str,
}

/// Opens a volume while no daemon has the data directory; the store is only read. What opening
/// changes in other files goes to the files of `world`, which may keep it in memory. Blocks.
///
/// # Errors
/// `agent_unknown`, `point_unknown`, `image_unknown`; `bad_request` for a name that several agents
/// have; damage.
pub fn open_offline(
    directory: &Path,
    store: &Path,
    world: &World,
    named: &Named<'_>,
) -> Result<Content, Refusal> {
    let catalog = RedbCatalog::open(&*world.files, &directory.join(CATALOG_FILE));
    let catalog: Arc<dyn offsite_store::catalog::Catalog> =
        Arc::new(catalog.map_err(Failure::from)?);
    let rules = Settings::shipped("").rules();
    let register = Register::open(Arc::clone(&catalog), rules).map_err(Failure::from)?;
    let (owner, agent) = find_agent(&register, named.agent)?;
    let store = Store::open_read_only(Arc::clone(&world.files), store, StoreSettings::default())
        .map_err(|error| refusal(&error))?;
    let mutations = Mutations::new();
    let replicas = Replicas::open(store.clone(), world.clone(), catalog, directory, mutations, 1)
        .map_err(|error| {
        Refusal::new(ErrorCode::Internal, format!("cannot open drafts: {error}"))
    })?;
    Content::of(&replicas, &owner, agent, named)
}

/// Finds a volume of a point.
fn find_volume(
    replicas: &Replicas,
    owner: &Owner,
    agent: AgentId,
    named: &Named<'_>,
) -> Result<(PointId, VolumeId), Refusal> {
    let points = replicas.points(owner, Some(agent))?;
    let is_meant = |point: &&PointShown| {
        named.point == "latest" || point.id.to_string() == named.point.to_lowercase()
    };
    let point = points.iter().find(is_meant).ok_or_else(|| {
        Refusal::new(
            ErrorCode::PointUnknown,
            format!("agent {} has no such recovery point", named.agent),
        )
    })?;
    let volume = point.volume(named.volume).ok_or_else(|| {
        let known = point.images.iter().filter_map(|image| image.open.display_name.clone());
        let known = known.collect::<Vec<_>>().join(", ");
        let sentence = format!("the point has no volume {}; it has: {known}", named.volume);
        Refusal::new(ErrorCode::ImageUnknown, sentence)
    })?;
    Ok((point.id, volume))
}

fn find_agent(register: &Register, name: &str) -> Result<(Owner, AgentId), Refusal> {
    let mut found = Vec::new();
    for row in register.peers()? {
        let Some(place) = &row.place else { continue };
        let owner = Owner { tenant: place.tenant.0, source: place.subject.0 };
        let source = &row.asked().host_name;
        for agent in &row.asked().wish.agents {
            let is_named = agent.display_name == name
                || format!("{source}/{}", agent.display_name) == name
                || agent.id.to_string() == name.to_lowercase();
            if is_named {
                found.push((owner, agent.id, format!("{source}/{}", agent.display_name)));
            }
        }
    }
    match found.as_slice() {
        [(owner, agent, _)] => Ok((*owner, *agent)),
        [] => Err(Refusal::new(ErrorCode::AgentUnknown, format!("there is no agent {name}"))),
        several => {
            let names: Vec<_> = several.iter().map(|(.., name)| name.as_str()).collect();
            let sentence = format!("several agents are called {name}: {}", names.join(", "));
            Err(Refusal::new(ErrorCode::BadRequest, sentence))
        }
    }
}

/// An error of the store in the words of the wire.
#[must_use]
pub fn refusal(error: &StoreError) -> Refusal {
    let code = match error {
        StoreError::Damaged(_) | StoreError::UnknownRecord { .. } => ErrorCode::HashMismatch,
        _ => ErrorCode::RepositoryUnavailable,
    };
    Refusal::new(code, error.to_string())
}

impl Content {
    /// Opens a volume of a point. Blocks.
    ///
    /// # Errors
    /// `point_unknown`, `image_unknown`; damage.
    pub(crate) fn of(
        replicas: &Replicas,
        owner: &Owner,
        agent: AgentId,
        named: &Named<'_>,
    ) -> Result<Self, Refusal> {
        let (point, volume) = find_volume(replicas, owner, agent, named)?;
        let (store, tenant) = (replicas.store.clone(), owner.tenant);
        let image = store.image(tenant, point, volume).map_err(|error| refusal(&error))?;
        Ok(Self { store, tenant, image, point })
    }

    /// Bytes that are not zeros. Blocks.
    ///
    /// # Errors
    /// Damage; the disk's.
    pub fn data_bytes(&self) -> Result<u64, Refusal> {
        let mut sum = 0_u64;
        for entry in self.image.list(0) {
            let entry = entry.map_err(|error| refusal(&error))?;
            if entry.key != Key::ZERO {
                sum = sum.saturating_add(entry.length.into());
            }
        }
        Ok(sum)
    }

    /// Size of the volume.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.image.bytes()
    }

    /// Hands on the whole volume, in order.
    ///
    /// # Errors
    /// Damage, with the record; the disk's; whatever `sink` says.
    pub fn read(
        &self,
        sink: &mut dyn FnMut(Part<'_>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut window: Vec<ListEntry> = Vec::new();
        let mut bytes = 0_usize;
        for entry in self.image.list(0) {
            let entry = entry.map_err(|error| refusal(&error))?;
            let length = entry.length as usize;
            let is_zeros = entry.key == Key::ZERO;
            if is_zeros || bytes.saturating_add(length) > WINDOW_BYTES {
                self.hand_on(&window, bytes, sink)?;
                window.clear();
                bytes = 0;
            }
            if is_zeros {
                sink(Part::Zeros(u64::from(entry.length)))?;
            } else {
                bytes = bytes.saturating_add(length);
                window.push(entry);
            }
        }
        self.hand_on(&window, bytes, sink)
    }

    fn hand_on(
        &self,
        window: &[ListEntry],
        bytes: usize,
        sink: &mut dyn FnMut(Part<'_>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let Some(first) = window.first() else { return Ok(()) };
        let mut filled = vec![0; bytes];
        let mut n_filled = 0_usize;
        let plan = self.store.plan(self.tenant, &self.image, window);
        for fetch in plan.map_err(|error| refusal(&error))? {
            let fetched = fetch.read(&self.store).map_err(|error| refusal(&error))?;
            for (offset, record) in fetched.records() {
                let start =
                    usize::try_from(offset.saturating_sub(first.offset)).unwrap_or(usize::MAX);
                let place = filled.get_mut(start..start.saturating_add(record.len()));
                let outside = || Refusal::new(ErrorCode::Internal, "a record beyond its window");
                place.ok_or_else(outside)?.copy_from_slice(record);
                n_filled = n_filled.saturating_add(record.len());
            }
        }
        // A window that was not filled to the last byte would restore zeros in silence.
        if n_filled != bytes {
            return Err(Refusal::new(ErrorCode::Internal, "a window of the volume was not filled"));
        }
        sink(Part::Bytes(&filled))
    }
}
