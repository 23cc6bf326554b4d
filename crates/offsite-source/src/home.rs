//! The data directory of a source, opened: settings, memory and keys, in the order in which they
//! may be trusted.

use std::path::Path;
use std::sync::Arc;

use offsite_daemon::config::ConfigError;
use offsite_daemon::data_dir::DataDirError;
use offsite_daemon::private::PrivateError;
use offsite_daemon::{DataDir, PrivateDirectory, SystemFiles, SystemLuck, process};
use offsite_model::FileSystem;
use offsite_source_core::error::Trouble;
use offsite_source_core::install::Keys;
use offsite_source_core::memory::{Identity, Memory};
use offsite_source_core::names::check_name;
use offsite_store::Store;
use offsite_store::catalog::{CatalogError, RedbCatalog};

use crate::exit::{Exit, Failure};
use crate::settings::{self, File};

/// The program, as data directories know it.
pub(crate) const PROGRAM: &str = "offsite-source";
const KEYS: &str = "keys";
const MEMORY: &str = "memory.redb";
const STORE: &str = "store";

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
        let directory = DataDir::open(Arc::clone(&files), path, PROGRAM)?;
        let file = File::read(&*files, &directory.config_path())?;
        let private =
            PrivateDirectory::open(Arc::clone(&files), &path.join(KEYS), process::owner())?;
        let keys = Keys::new(Arc::clone(&files), Arc::new(private));
        let memory = Memory::new(Arc::new(RedbCatalog::open(&*files, &path.join(MEMORY))?));
        let mut identity = memory.identity()?.ok_or_else(|| {
            Failure::failed(
                "the memory of this source does not say who it is",
                "put the data directory back from a copy",
            )
        })?;
        if let Some(name) = &file.name {
            check_name("source", name)?;
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
        check_name("source", &identity.name)?;
        let files: Arc<dyn FileSystem> = Arc::new(SystemFiles);
        let directory = DataDir::begin_set_up(Arc::clone(&files), path, PROGRAM)?;
        let private =
            PrivateDirectory::create(Arc::clone(&files), &path.join(KEYS), process::owner())?;
        let keys = Keys::new(Arc::clone(&files), Arc::new(private));
        let memory = Memory::new(Arc::new(RedbCatalog::open(&*files, &path.join(MEMORY))?));
        memory.set_identity(identity)?;
        let key = keys.make()?;
        memory.set_prepared_key(&key)?;
        let settings = offsite_store::Settings::default();
        drop(
            Store::create(Arc::clone(&files), &path.join(STORE), &SystemLuck, settings)
                .map_err(Trouble::from)?,
        );
        let text = settings::text(&identity.name);
        offsite_daemon::config::write_default(&*files, &directory.config_path(), &text).map_err(
            |error| Failure::failed(format!("cannot write the configuration: {error}"), ""),
        )?;
        directory.finish_set_up()?;
        Ok(key)
    }
}

/// Opens the store of recovery points. It is made by `init` and never here: a store that is not
/// there is a disk that is not mounted, and an empty one in its place would hide that.
fn open_store(files: &Arc<dyn FileSystem>, path: &Path) -> Result<Store, Failure> {
    let opened = Store::open(Arc::clone(files), path, offsite_store::Settings::default());
    let store = opened.map_err(|error| {
        let trouble = Trouble::from(error);
        Trouble {
            message: format!("cannot open the recovery points in {}: {trouble}", path.display()),
            ..trouble
        }
    })?;
    for alarm in store.alarms() {
        tracing::error!(cause = ?alarm, "the store needs looking at: offsite-source verify");
    }
    Ok(store)
}

impl From<DataDirError> for Failure {
    fn from(error: DataDirError) -> Self {
        let (exit, code) = match &error {
            DataDirError::Absent { .. } => (Exit::Unknown, "not_set_up"),
            DataDirError::InUse { .. } => (Exit::Failed, "in_use"),
            DataDirError::SetUp { .. } => (Exit::Failed, "already_exists"),
            DataDirError::Foreign { .. } | DataDirError::OtherProgram { .. } => {
                (Exit::Failed, "foreign_directory")
            }
            DataDirError::OtherVersion { .. } => (Exit::Failed, "version_unsupported"),
            DataDirError::Unfinished { .. } => (Exit::Failed, "unfinished"),
            DataDirError::Loose { .. } => (Exit::Failed, "loose_mode"),
            DataDirError::Io { .. } => (Exit::Failed, "failed"),
        };
        Self::new(exit, code, error.to_string(), "")
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let hint = "correct the configuration file, then try again";
        Self::new(Exit::Failed, "configuration_wrong", error.to_string(), hint)
    }
}

impl From<PrivateError> for Failure {
    fn from(error: PrivateError) -> Self {
        Self::new(Exit::Failed, "keys_not_private", error.to_string(), "")
    }
}

impl From<CatalogError> for Failure {
    fn from(error: CatalogError) -> Self {
        Trouble::from(error).into()
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        offsite_proto::error::Refusal::from(trouble).into()
    }
}
