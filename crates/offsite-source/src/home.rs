//! The data directory of a source, opened: settings, memory and keys, in the order in which they
//! may be trusted.

use std::path::Path;
use std::sync::Arc;

use offsite_daemon::{DataDir, PrivateDirectory, SystemFiles, SystemLuck, process};
use offsite_model::FileSystem;
use offsite_source_core::error::Trouble;
use offsite_source_core::install::Keys;
use offsite_source_core::memory::{Identity, Memory};
use offsite_source_core::names::check_name;
use offsite_store::Store;
use offsite_store::catalog::RedbCatalog;
use offsite_terminal::Failure;

use crate::exit::{no_directory, no_keys, no_memory, no_settings, troubled};
use crate::settings::{self, File};

/// The program, as data directories know it.
pub(crate) const PROGRAM: &str = "offsite-source";
const KEYS: &str = "keys";
const MEMORY: &str = "memory.redb";
/// The store of recovery points, in the data directory.
pub(crate) const STORE: &str = "store";

/// An opened data directory. Nobody else has it while this lives.
pub(crate) struct Home {
    /// The directory and its lock.
    pub(crate) directory: DataDir,
    /// Where everything lies.
    pub(crate) files: Arc<dyn FileSystem>,
    /// The configuration.
    pub(crate) file: File,
    /// What survives a restart.
    pub(crate) memory: Memory,
    /// Private keys.
    pub(crate) keys: Keys,
    /// The recovery points.
    pub(crate) store: Store,
    /// Who this source is.
    pub(crate) identity: Identity,
}

impl Home {
    /// Opens a directory that `init` made.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let files: Arc<dyn FileSystem> = Arc::new(SystemFiles);
        let directory = DataDir::open(Arc::clone(&files), path, PROGRAM).map_err(no_directory)?;
        let file = File::read(&*files, &directory.config_path()).map_err(no_settings)?;
        let private =
            PrivateDirectory::open(Arc::clone(&files), &path.join(KEYS), process::owner())
                .map_err(no_keys)?;
        let keys = Keys::new(Arc::clone(&files), Arc::new(private));
        let memory = Memory::new(Arc::new(
            RedbCatalog::open(&*files, &path.join(MEMORY)).map_err(no_memory)?,
        ));
        let mut identity = memory.identity().map_err(no_memory)?.ok_or_else(|| {
            Failure::failed("the memory of this source does not say who it is")
                .hinting("put the data directory back from a copy")
        })?;
        if let Some(name) = &file.name {
            check_name("source", name).map_err(troubled)?;
            identity.name.clone_from(name);
        }
        let store = open_store(&files, &path.join(STORE))?;
        Ok(Self { directory, files, file, memory, keys, store, identity })
    }

    /// Makes a directory with an identity and the key of the first pairing in it.
    pub(crate) fn make(
        path: &Path,
        identity: &Identity,
    ) -> Result<offsite_exchange::pairing::PublicKey, Failure> {
        check_name("source", &identity.name).map_err(troubled)?;
        let files: Arc<dyn FileSystem> = Arc::new(SystemFiles);
        let directory =
            DataDir::begin_set_up(Arc::clone(&files), path, PROGRAM).map_err(no_directory)?;
        let private =
            PrivateDirectory::create(Arc::clone(&files), &path.join(KEYS), process::owner())
                .map_err(no_keys)?;
        let keys = Keys::new(Arc::clone(&files), Arc::new(private));
        let memory = Memory::new(Arc::new(
            RedbCatalog::open(&*files, &path.join(MEMORY)).map_err(no_memory)?,
        ));
        memory.set_identity(identity).map_err(no_memory)?;
        let key = keys.make().map_err(troubled)?;
        memory.set_prepared_key(&key).map_err(no_memory)?;
        let settings = offsite_store::Settings::default();
        drop(
            Store::create(Arc::clone(&files), &path.join(STORE), &SystemLuck, settings)
                .map_err(|error| troubled(error.into()))?,
        );
        let text = settings::text(&identity.name);
        offsite_daemon::config::write_default(&*files, &directory.config_path(), &text)
            .map_err(|error| Failure::failed(format!("cannot write the configuration: {error}")))?;
        directory.finish_set_up().map_err(no_directory)?;
        Ok(key)
    }
}

/// Opens the store of recovery points. It is made by `init` and never here: a store that is not
/// there is a disk that is not mounted, and an empty one in its place would hide that.
fn open_store(files: &Arc<dyn FileSystem>, path: &Path) -> Result<Store, Failure> {
    let opened = Store::open(Arc::clone(files), path, offsite_store::Settings::default());
    let store = opened.map_err(|error| {
        let trouble = Trouble::from(error);
        let message = format!("cannot open the recovery points in {}: {trouble}", path.display());
        troubled(Trouble { message, ..trouble })
    })?;
    for alarm in store.alarms() {
        tracing::error!(cause = ?alarm, "the store needs looking at: offsite-source verify");
    }
    Ok(store)
}
