//! The disk as a program sees it: the two traits of `model`.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use offsite_model::{BLOCK_BYTES, Extent, File, FileSystem, Kind, Metadata, OpenMode};

use super::content::{PAGE_BYTES, Stored};
use super::names::Named;
use super::state::{State, Which, lock};
use super::trace::Call;

/// What a disk without a bound says of itself.
const BYTES_UNBOUNDED: u64 = 1 << 50;

/// The files of a disk, until the next cut or kill.
pub(super) struct Mount {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) generation: u64,
}

/// What becomes of a changing call.
enum Admitted {
    /// It happens.
    Done,
    /// It fails without a trace.
    Failed(io::Error),
    /// The power fails in its middle.
    Cut,
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

impl State {
    fn check_alive(&self, generation: u64) -> io::Result<()> {
        if self.generation != generation || self.calls_to_cut == Some(0) {
            return Err(power_is_off());
        }
        Ok(())
    }

    /// Counts a call against the faults to come.
    fn fault(&mut self, which: Which) -> Option<io::Error> {
        let mut error = None;
        self.faults.retain_mut(|fault| {
            if fault.which != which {
                return true;
            }
            if fault.after > 0 {
                fault.after -= 1;
                return true;
            }
            error = Some(io::Error::from(fault.error));
            fault.for_good
        });
        error
    }

    /// Decides on a changing call that needs so many more pages.
    fn admit(&mut self, generation: u64, pages: u64) -> Admitted {
        if let Err(error) = self.check_alive(generation) {
            return Admitted::Failed(error);
        }
        self.n_changes += 1;
        if let Some(left) = &mut self.calls_to_cut {
            *left -= 1;
            if *left == 0 {
                return Admitted::Cut;
            }
        }
        if self.is_read_only {
            return Admitted::Failed(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if let Some(error) = self.fault(Which::Changes) {
            return Admitted::Failed(error);
        }
        if let Some(bytes_max) = self.bytes_max
            && pages > 0
            && self.bytes_used() + pages * PAGE_BYTES as u64 > bytes_max
        {
            return Admitted::Failed(io::ErrorKind::StorageFull.into());
        }
        Admitted::Done
    }

    /// A change of names: done, or failed as a whole. A cut in its middle leaves it pending.
    fn change_names(
        &mut self,
        generation: u64,
        pages: u64,
        call: Call,
        change: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> io::Result<()> {
        match self.admit(generation, pages) {
            Admitted::Failed(error) => Err(error),
            Admitted::Cut => {
                change(self)?;
                Err(power_is_off())
            }
            Admitted::Done => {
                change(self)?;
                self.note(call);
                Ok(())
            }
        }
    }
}

impl Mount {
    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = lock(&self.state);
        state.check_alive(self.generation)?;
        Ok(state)
    }

    fn opened(&self, state: &mut State, index: usize) -> Arc<dyn File> {
        state.n_opened += 1;
        Arc::new(Open {
            state: Arc::clone(&self.state),
            generation: self.generation,
            index,
            id: state.n_opened,
            is_direct: false,
        })
    }
}

impl FileSystem for Mount {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut state = self.alive()?;
        if mode != OpenMode::CreateNew {
            let Named::File(index) = state.names.find(path)? else {
                return Err(io::ErrorKind::IsADirectory.into());
            };
            if mode == OpenMode::Write && state.is_read_only {
                return Err(io::ErrorKind::ReadOnlyFilesystem.into());
            }
            state.note(Call::Open(path.to_owned()));
            return Ok(self.opened(&mut state, index));
        }
        let index = state.files.len();
        state.change_names(self.generation, 1, Call::Create(path.to_owned()), |state| {
            state.names.add(path, Named::File(index))?;
            state.files.push(Stored::default());
            Ok(())
        })?;
        Ok(self.opened(&mut state, index))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let call = Call::CreateDir(path.to_owned());
        self.alive()?
            .change_names(self.generation, 1, call, |state| state.names.add(path, Named::Directory))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let call = Call::Rename(from.to_owned(), to.to_owned());
        self.alive()?.change_names(self.generation, 0, call, |state| state.names.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let call = Call::Remove(path.to_owned());
        self.alive()?.change_names(self.generation, 0, call, |state| state.names.remove(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let call = Call::Remove(path.to_owned());
        self.alive()?.change_names(self.generation, 0, call, |state| state.names.remove_dir(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.alive()?.names.list(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.alive()?;
        if state.names.find(path)? != Named::Directory {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        match state.admit(self.generation, 0) {
            Admitted::Failed(error) => return Err(error),
            Admitted::Cut => return Err(power_is_off()),
            Admitted::Done => {}
        }
        if let Some(error) = state.fault(Which::Syncs) {
            return Err(error);
        }
        state.names.sync_dir(path);
        state.note(Call::SyncDir(path.to_owned()));
        Ok(())
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let state = self.alive()?;
        Ok(match state.names.find(path)? {
            Named::Directory => Metadata { kind: Kind::Directory, bytes: 0, mode: 0o700, owner: 0 },
            Named::File(index) => Metadata {
                kind: Kind::File,
                bytes: state.files[index].seen.bytes(),
                mode: 0o600,
                owner: 0,
            },
        })
    }

    fn bytes_free(&self, _path: &Path) -> io::Result<u64> {
        let state = self.alive()?;
        let bytes_max = state.bytes_max.unwrap_or(BYTES_UNBOUNDED);
        Ok(bytes_max.saturating_sub(state.bytes_used()))
    }

    fn bytes_total(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.alive()?.bytes_max.unwrap_or(BYTES_UNBOUNDED))
    }

    fn lock_holder(&self, path: &Path) -> Option<String> {
        let state = self.alive().ok()?;
        let Ok(Named::File(index)) = state.names.find(path) else { return None };
        state.files[index].locked_by.is_held().then(|| "process 7 (somebody)".to_owned())
    }
}

/// An open file.
struct Open {
    state: Arc<Mutex<State>>,
    generation: u64,
    index: usize,
    id: u64,
    /// Whether it writes past a cache that this disk has none of: the rules are those of others.
    is_direct: bool,
}

impl Open {
    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = lock(&self.state);
        state.check_alive(self.generation)?;
        Ok(state)
    }
}

impl State {
    fn note_file(&mut self, index: usize, call: impl FnOnce(std::path::PathBuf) -> Call) {
        if self.trace.is_some() {
            let path = self.names.path_of(index).cloned().unwrap_or_default();
            self.note(call(path));
        }
    }
}

impl File for Open {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.alive()?;
        state.n_reads += 1;
        if let Some(error) = state.fault(Which::Reads) {
            return Err(error);
        }
        let mut n = bytes.len();
        if state.has_short_reads && n > 1 {
            n = 1 + state.dice.below(n as u64) as usize;
        }
        Ok(state.files[self.index].seen.read(&mut bytes[..n], offset))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let is_whole = bytes.len().is_multiple_of(BLOCK_BYTES)
            && offset.is_multiple_of(BLOCK_BYTES as u64)
            && bytes.as_ptr().align_offset(BLOCK_BYTES) == 0;
        if self.is_direct && !is_whole {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut state = lock(&self.state);
        let pages = state.files[self.index].seen.pages_missing(bytes.len() as u64, offset);
        match state.admit(self.generation, pages) {
            Admitted::Done => {
                state.files[self.index].write(bytes, offset);
                let n = bytes.len() as u64;
                state.note_file(self.index, |path| Call::Write { path, offset, bytes: n });
                Ok(())
            }
            Admitted::Cut => {
                state.files[self.index].write(bytes, offset);
                Err(power_is_off())
            }
            // A write that fails may have written a beginning.
            Admitted::Failed(error) => {
                if state.check_alive(self.generation).is_ok() && !state.is_read_only {
                    let n = state.dice.below(bytes.len() as u64 + 1);
                    let room = state.bytes_max.is_none();
                    if room {
                        state.files[self.index].write(&bytes[..n as usize], offset);
                    }
                }
                Err(error)
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.alive()?;
        let state = &mut *state;
        match state.admit(self.generation, 0) {
            Admitted::Done => {}
            Admitted::Cut => return Err(power_is_off()),
            Admitted::Failed(error) => {
                state.files[self.index].fail_sync(&mut state.dice);
                return Err(error);
            }
        }
        if let Some(error) = state.fault(Which::Syncs) {
            state.files[self.index].fail_sync(&mut state.dice);
            return Err(error);
        }
        state.files[self.index].sync();
        state.note_file(self.index, Call::Sync);
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.alive()?.files[self.index].seen.bytes())
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.alive()?;
        match state.admit(self.generation, 0) {
            Admitted::Failed(error) => Err(error),
            Admitted::Cut => {
                state.files[self.index].resize(bytes);
                Err(power_is_off())
            }
            Admitted::Done => {
                state.files[self.index].resize(bytes);
                state.note_file(self.index, |path| Call::Resize(path, bytes));
                Ok(())
            }
        }
    }

    fn preallocate(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let mut state = lock(&self.state);
        let pages = state.files[self.index].seen.pages_missing(bytes, offset);
        match state.admit(self.generation, pages) {
            Admitted::Failed(error) => Err(error),
            Admitted::Cut => Err(power_is_off()),
            Admitted::Done => {
                state.files[self.index].fill_holes(offset, bytes);
                Ok(())
            }
        }
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Extent>> {
        let state = self.alive()?;
        let seen = &state.files[self.index].seen;
        let page_bytes = PAGE_BYTES as u64;
        let n_pages = seen.bytes().div_ceil(page_bytes);
        let Some(first) = (offset / page_bytes..n_pages).find(|&page| seen.has_page(page)) else {
            return Ok(None);
        };
        let end = (first..n_pages).find(|&page| !seen.has_page(page)).unwrap_or(n_pages);
        let start = offset.max(first * page_bytes);
        let end = (end * page_bytes).min(seen.bytes());
        Ok((start < end).then(|| Extent { offset: start, bytes: end - start }))
    }

    fn advise(&self, _offset: u64, _bytes: u64, _will_need: bool) {}

    fn past_cache(&self) -> io::Result<Arc<dyn File>> {
        let mut state = self.alive()?;
        state.n_opened += 1;
        let id = state.n_opened;
        let (state, generation, index) = (Arc::clone(&self.state), self.generation, self.index);
        Ok(Arc::new(Self { state, generation, index, id, is_direct: true }))
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut state = self.alive()?;
        Ok(state.files[self.index].locked_by.take_alone(self.id))
    }

    fn try_lock_shared(&self) -> io::Result<bool> {
        let mut state = self.alive()?;
        Ok(state.files[self.index].locked_by.share(self.id))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if state.generation == self.generation {
            state.files[self.index].locked_by.let_go(self.id);
        }
    }
}
