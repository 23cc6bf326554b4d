//! The catalog as one redb file, reached through [`FileSystem`].
//!
//! Every write transaction is immediate and commits in two phases: mixed modes and one-phase
//! commits are where redb has had its crash bugs. One function opens write transactions,
//! `begin_write`. A new file is made under another name and renamed when it is whole, so a power
//! cut leaves either no catalog or a good one.
//!
//! **Absent:** redb's own file access and locks: the owner of the directory holds the lock.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use offsite_model::{File, FileSystem, OpenMode};
use redb::{
    Builder, CommitError, Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase,
    ReadableTable, StorageBackend, StorageError, TableDefinition, TableError, TransactionError,
    WriteTransaction,
};

use super::{
    Catalog, CatalogError, KeyRange, Order, Row, Rows, RowsMut, Table, Verdict, check_bounds,
    is_empty_range,
};

/// Memory redb may use for pages: the catalog holds small rows only.
const CACHE_BYTES: usize = 8 << 20;
/// A page of redb, which its files are whole multiples of.
const PAGE_BYTES: u64 = 4 << 10;

/// A catalog in one file.
pub struct RedbCatalog {
    database: Database,
    /// Once set, nothing is written any more, not even what redb writes when it is closed.
    is_stopped: Arc<AtomicBool>,
}

impl RedbCatalog {
    /// Opens the catalog at `path`, or makes an empty one when nothing is there. What a crash
    /// left is repaired, and every page's checksum is verified before anything is believed.
    ///
    /// The caller sees to it that nobody else has the file open.
    ///
    /// # Errors
    /// [`CatalogError::Io`] from the disk; [`CatalogError::Damaged`] when the file is no catalog or
    /// has been altered.
    pub fn open(files: &dyn FileSystem, path: &Path) -> Result<Self, CatalogError> {
        let is_stopped = Arc::new(AtomicBool::new(false));
        let database = match files.open(path, OpenMode::Write) {
            Ok(file) => open_database(file, &is_stopped)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(files, path, &is_stopped)?
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self { database, is_stopped })
    }

    /// Writes nothing more from now on: the file belongs to somebody else, or the disk failed.
    /// Reading goes on.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
    }

    /// The only place where a write transaction begins.
    fn begin_write(&self) -> Result<WriteTransaction, CatalogError> {
        let mut transaction = self.database.begin_write().map_err(transaction_error)?;
        transaction
            .set_durability(Durability::Immediate)
            .map_err(|error| CatalogError::Damaged(error.to_string()))?;
        transaction.set_two_phase_commit(true);
        Ok(transaction)
    }

    fn poison_on_error<T>(&self, result: Result<T, CatalogError>) -> Result<T, CatalogError> {
        if result.is_err() {
            self.stop();
        }
        result
    }
}

/// A power cut may leave a file that was growing at any length between the old and the new one, and
/// redb refuses a length that is not of whole pages. What lies behind the last commit means
/// nothing, so it is rounded up before redb looks.
fn round_up(file: &dyn File) -> Result<(), CatalogError> {
    let bytes = file.bytes()?;
    let whole = bytes.next_multiple_of(PAGE_BYTES);
    if whole != bytes {
        file.set_bytes(whole)?;
        file.sync()?;
    }
    Ok(())
}

fn open_database(
    file: Arc<dyn File>,
    is_stopped: &Arc<AtomicBool>,
) -> Result<Database, CatalogError> {
    round_up(&*file)?;
    Builder::new()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true)
        .create_with_backend(Backend { file, is_stopped: Arc::clone(is_stopped) })
        .map_err(database_error)
}

/// Makes an empty catalog whole under another name, then gives it its own.
fn create(
    files: &dyn FileSystem,
    path: &Path,
    is_stopped: &Arc<AtomicBool>,
) -> Result<Database, CatalogError> {
    let Some(directory) = path.parent() else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
    };
    let temporary = path.with_extension("tmp");
    match files.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let file = files.open(&temporary, OpenMode::CreateNew)?;
    let database = open_database(Arc::clone(&file), is_stopped)?;
    file.sync()?;
    files.rename(&temporary, path)?;
    files.sync_dir(directory)?;
    Ok(database)
}

impl Catalog for RedbCatalog {
    fn read_with(&self, look: &mut dyn FnMut(&dyn Rows)) -> Result<(), CatalogError> {
        let transaction = self.database.begin_read().map_err(transaction_error)?;
        look(&Reading(transaction));
        Ok(())
    }

    fn write_with(
        &self,
        change: &mut dyn FnMut(&mut dyn RowsMut) -> Verdict,
    ) -> Result<(), CatalogError> {
        if self.is_stopped.load(Ordering::SeqCst) {
            return Err(CatalogError::Poisoned);
        }
        let transaction = self.poison_on_error(self.begin_write())?;
        let mut writing = Writing(transaction);
        let verdict = change(&mut writing);
        let ended = match verdict {
            Verdict::Keep => writing.0.commit().map_err(commit_error),
            Verdict::Discard => writing.0.abort().map_err(storage_error),
        };
        self.poison_on_error(ended)
    }
}

const fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(table.name())
}

struct Reading(ReadTransaction);

impl Rows for Reading {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, CatalogError> {
        match self.0.open_table(definition(table)) {
            Ok(rows) => get_row(&rows, key),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(table_error(error)),
        }
    }

    fn scan(
        &self,
        table: Table,
        range: KeyRange<'_>,
        order: Order,
        n_max: usize,
    ) -> Result<Vec<Row>, CatalogError> {
        match self.0.open_table(definition(table)) {
            Ok(rows) => scan_rows(&rows, range, order, n_max),
            Err(TableError::TableDoesNotExist(_)) => Ok(Vec::new()),
            Err(error) => Err(table_error(error)),
        }
    }
}

struct Writing(WriteTransaction);

impl Rows for Writing {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, CatalogError> {
        get_row(&self.0.open_table(definition(table)).map_err(table_error)?, key)
    }

    fn scan(
        &self,
        table: Table,
        range: KeyRange<'_>,
        order: Order,
        n_max: usize,
    ) -> Result<Vec<Row>, CatalogError> {
        let rows = self.0.open_table(definition(table)).map_err(table_error)?;
        scan_rows(&rows, range, order, n_max)
    }
}

impl RowsMut for Writing {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), CatalogError> {
        check_bounds(table, key, value)?;
        let mut rows = self.0.open_table(definition(table)).map_err(table_error)?;
        rows.insert(key, value).map_err(storage_error)?;
        Ok(())
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> Result<bool, CatalogError> {
        let mut rows = self.0.open_table(definition(table)).map_err(table_error)?;
        let removed = rows.remove(key).map_err(storage_error)?;
        Ok(removed.is_some())
    }
}

fn get_row(
    rows: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
) -> Result<Option<Vec<u8>>, CatalogError> {
    let found = rows.get(key).map_err(storage_error)?;
    Ok(found.map(|value| value.value().to_vec()))
}

fn scan_rows(
    rows: &impl ReadableTable<&'static [u8], &'static [u8]>,
    range: KeyRange<'_>,
    order: Order,
    n_max: usize,
) -> Result<Vec<Row>, CatalogError> {
    if is_empty_range(range.0, range.1) {
        return Ok(Vec::new());
    }
    let mut found = rows.range::<&[u8]>(range).map_err(storage_error)?;
    let mut scanned = Vec::new();
    while scanned.len() < n_max {
        let next = match order {
            Order::Ascending => found.next(),
            Order::Descending => found.next_back(),
        };
        let Some(row) = next else { break };
        let (key, value) = row.map_err(storage_error)?;
        scanned.push((key.value().to_vec(), value.value().to_vec()));
    }
    Ok(scanned)
}

/// redb's idea of storage over our idea of a file.
struct Backend {
    file: Arc<dyn File>,
    is_stopped: Arc<AtomicBool>,
}

impl Backend {
    fn check_writable(&self) -> io::Result<()> {
        match self.is_stopped.load(Ordering::SeqCst) {
            true => Err(io::Error::other("the catalog has stopped writing")),
            false => Ok(()),
        }
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backend")
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, io::Error> {
        self.file.bytes()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.check_writable()?;
        self.file.set_bytes(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.check_writable()?;
        self.file.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.check_writable()?;
        self.file.write_all_at(data, offset)
    }
}

fn storage_error(error: StorageError) -> CatalogError {
    match error {
        StorageError::Io(error) => CatalogError::Io(error),
        StorageError::PreviousIo | StorageError::DatabaseClosed | StorageError::LockPoisoned(_) => {
            CatalogError::Poisoned
        }
        other => CatalogError::Damaged(other.to_string()),
    }
}

fn database_error(error: DatabaseError) -> CatalogError {
    match error {
        DatabaseError::Storage(error) => storage_error(error),
        other => CatalogError::Damaged(other.to_string()),
    }
}

fn transaction_error(error: TransactionError) -> CatalogError {
    match error {
        TransactionError::Storage(error) => storage_error(error),
        other => CatalogError::Damaged(other.to_string()),
    }
}

fn table_error(error: TableError) -> CatalogError {
    match error {
        TableError::Storage(error) => storage_error(error),
        other => CatalogError::Damaged(other.to_string()),
    }
}

fn commit_error(error: CommitError) -> CatalogError {
    match error {
        CommitError::Storage(error) => storage_error(error),
        other => CatalogError::Damaged(other.to_string()),
    }
}
