//! The state of a target core and its two listeners.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use offsite_exchange::pairing::target::Order;

use offsite_model::{Clock, CoreId, FileSystem, Luck, Timestamp};
use offsite_pki::{Authority, Certificate};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::pairing::TargetSummary;
use offsite_proto::version::ProtocolVersion;
use offsite_store::catalog::{Catalog, CatalogError, RedbCatalog, Rows, Transactions};
use offsite_store::{Lock, Store, StoreError};
use offsite_transport::Mutations;
use tokio::sync::{Notify, Semaphore};

use crate::addresses::Addresses;
use crate::config::Settings;
use crate::failure::Failure;
use crate::outline::Outlines;
use crate::peers::Register;
use crate::replicas::Replicas;
use crate::retention::state::Retention;
use crate::retention::time::{Remembered, RetentionTime};
use crate::tenants;
use crate::turns::Turns;

/// The catalog's file name inside the data directory.
pub(crate) const CATALOG_FILE: &str = "catalog.redb";
/// Strangers' submits that are worked on at once: their signatures and transactions must not take
/// the threads that paired sources need.
const N_STRANGERS_AT_ONCE: usize = 4;
/// Answers of H2 that are on their way at once: each holds a few MiB.
const N_READERS_AT_ONCE: usize = 16;

/// Who this target is. Made once, kept in files of mode 0600 by the program.
pub struct Identity {
    /// Its core id.
    pub core: CoreId,
    /// The authority that signs the certificates of sources.
    pub authority: Authority,
    /// The certificate its listeners show; its key is what sources pin.
    pub certificate: Certificate,
}

/// What a target reaches the world through.
#[derive(Clone)]
pub struct World {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub luck: Arc<dyn Luck>,
    /// Files.
    pub files: Arc<dyn FileSystem>,
}

/// A target core.
pub struct Target {
    settings: Settings,
    identity: Identity,
    world: World,
    catalog: Arc<dyn Catalog>,
    register: Register,
    strangers: Semaphore,
    orders: Mutex<VecDeque<Order>>,
    wake: Notify,
    mutations: Mutations,
    replicas: OnceLock<Arc<Replicas>>,
    retention: OnceLock<Arc<Retention>>,
    outlines: Outlines,
    readers: Arc<Semaphore>,
    turns: Turns,
    addresses: Addresses,
}

impl Target {
    /// Opens the target whose catalog lies in `directory`, and makes the catalog if there is none.
    ///
    /// # Errors
    /// [`CatalogError`] when the catalog cannot be opened or read.
    pub fn open(
        directory: &Path,
        settings: Settings,
        identity: Identity,
        world: World,
    ) -> Result<Arc<Self>, CatalogError> {
        let catalog = RedbCatalog::open(&*world.files, &directory.join(CATALOG_FILE))?;
        Self::over(Arc::new(catalog), settings, identity, world)
    }

    /// Opens the target over a catalog that is open already.
    ///
    /// # Errors
    /// [`CatalogError`] when the catalog cannot be read.
    pub fn over(
        catalog: Arc<dyn Catalog>,
        settings: Settings,
        identity: Identity,
        world: World,
    ) -> Result<Arc<Self>, CatalogError> {
        let settings = settings.bounded();
        let register = Register::open(Arc::clone(&catalog), settings.rules())?;
        Ok(Arc::new(Self {
            settings,
            identity,
            world,
            catalog,
            register,
            strangers: Semaphore::new(N_STRANGERS_AT_ONCE),
            orders: Mutex::default(),
            wake: Notify::new(),
            mutations: Mutations::new(),
            replicas: OnceLock::new(),
            retention: OnceLock::new(),
            outlines: Outlines::default(),
            readers: Arc::new(Semaphore::new(N_READERS_AT_ONCE)),
            turns: Turns::default(),
            addresses: Addresses::default(),
        }))
    }

    /// Keeps what sources replicate in this store. Only the first call counts.
    ///
    /// # Errors
    /// The store's.
    pub fn keep_in(
        &self,
        store: Store,
        files: Arc<dyn FileSystem>,
        n_threads: usize,
    ) -> Result<(), StoreError> {
        let catalog = Arc::clone(&self.catalog);
        let remembered = remembered(&store, &*catalog)?;
        let clock = Arc::clone(&self.world.clock);
        let (time, jump) = RetentionTime::open(clock, Arc::clone(&catalog), remembered)?;
        // What the store is told of points are moments of the retention clock.
        let clock = Arc::clone(&time) as Arc<dyn Clock>;
        let world = World { files, clock, luck: Arc::clone(&self.world.luck) };
        let mutations = self.mutations.clone();
        let rules = self.settings.session_rules();
        let replicas = Replicas::over(store, world, catalog, rules, mutations, n_threads);
        replicas.tidy_up()?;
        let is_first = self.retention.set(Arc::new(Retention::new(time))).is_ok();
        if !is_first || self.replicas.set(replicas).is_err() {
            tracing::warn!("the target keeps its replicas in a store already");
            return Ok(());
        }
        if let Some(jump) = jump
            && let Err(cause) = self.tell_jump(jump)
        {
            tracing::error!(%cause, "a jump of the system's clock is not in the audit log");
        }
        Ok(())
    }

    /// What decides when points go.
    ///
    /// # Errors
    /// `repository_unavailable` while there is no store.
    pub(crate) fn retention(&self) -> Result<Arc<Retention>, Refusal> {
        self.retention.get().cloned().ok_or_else(|| {
            Refusal::new(ErrorCode::RepositoryUnavailable, "the target has no repository").after(30)
        })
    }

    /// What sources replicate.
    ///
    /// # Errors
    /// `repository_unavailable` while there is no store.
    pub fn replicas(&self) -> Result<Arc<Replicas>, Refusal> {
        self.replicas.get().cloned().ok_or_else(|| {
            Refusal::new(ErrorCode::RepositoryUnavailable, "the target has no repository").after(30)
        })
    }

    /// Looks at one state of the catalog.
    ///
    /// # Errors
    /// What the look says, or the catalog.
    pub(crate) fn catalog_read<T>(
        &self,
        look: impl FnOnce(&dyn Rows) -> Result<T, Failure>,
    ) -> Result<T, Refusal> {
        Ok(self.catalog.read(look)?)
    }

    /// Its settings.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Who it is.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The pairing register.
    #[must_use]
    pub const fn register(&self) -> &Register {
        &self.register
    }

    /// The catalog under everything.
    #[must_use]
    pub fn catalog(&self) -> &Arc<dyn Catalog> {
        &self.catalog
    }

    /// What it reaches the world through.
    #[must_use]
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// The wall clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    /// Changes under way, which a stop waits for. Both listeners and the local socket share the
    /// list.
    #[must_use]
    pub const fn mutations(&self) -> &Mutations {
        &self.mutations
    }

    pub(crate) const fn orders(&self) -> &Mutex<VecDeque<Order>> {
        &self.orders
    }

    /// Rung when there is work for the housekeeping.
    pub(crate) const fn wake(&self) -> &Notify {
        &self.wake
    }

    /// Lists that were read back lately.
    pub(crate) const fn outlines(&self) -> &Outlines {
        &self.outlines
    }

    /// From where sources called.
    pub(crate) const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Bounds what is read back at once.
    pub(crate) const fn readers(&self) -> &Arc<Semaphore> {
        &self.readers
    }

    /// Who has his turn to keep the store in order.
    pub(crate) const fn turns(&self) -> &Turns {
        &self.turns
    }

    pub(crate) const fn strangers(&self) -> &Semaphore {
        &self.strangers
    }

    /// The target as a caller may know it; its name is for those it knows.
    pub(crate) fn summary(&self, with_name: bool) -> TargetSummary {
        TargetSummary {
            host_name: with_name.then(|| self.settings.name.clone()),
            id: self.identity.core.into(),
            version: self.settings.version,
            is_replication_only_repository_supported: true,
            protocol_min: ProtocolVersion::OLDEST.number(),
            protocol_max: ProtocolVersion::NEWEST.number(),
        }
    }
}

/// What a store says about the time.
fn remembered(store: &Store, catalog: &dyn Catalog) -> Result<Remembered, StoreError> {
    let mut remembered = Remembered::default();
    for tenant in catalog.read(|rows| tenants::ids(rows))? {
        let is_locked = store.lock(tenant, None)? != Lock::default();
        remembered.is_waiting |= is_locked;
        for point in store.points(tenant)? {
            remembered.is_waiting |= point.deleted_at.is_some();
            let newest = point.deleted_at.max(Some(point.committed_at));
            remembered.newest = remembered.newest.max(newest);
        }
    }
    Ok(remembered)
}

/// Runs work that blocks (signatures, transactions) off the runtime's threads.
///
/// # Errors
/// The work's own refusal; `internal` where it panicked.
pub(crate) async fn off_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|cause| {
        tracing::error!(%cause, "blocking work failed");
        Err(Refusal::new(ErrorCode::Internal, "the call failed on our side"))
    })
}
