//! Protecting what does not want to be protected: a clear error, and no point.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use offsite_model::{Extent, File, FileSystem, Luck, Metadata, OpenMode};
use offsite_proto::error::ErrorCode;
use offsite_testkit::SeededLuck;
use offsite_testkit::disk::{Disk, Fault, Which};

use super::protect::{
    RECORD, Scripted, agent, content, make, make_with, n_points, protection, protection_of,
    read_back, write,
};
use crate::memory::HooksRow;
use crate::progress::Progress;

/// What happens while a volume is read.
type Deed = dyn Fn(&dyn File) + Send + Sync;

/// Files of which each can be meddled with at one of its reads.
struct Meddled {
    files: Arc<dyn FileSystem>,
    reads_left: Arc<AtomicU64>,
    deed: Arc<Deed>,
}

struct MeddledFile {
    file: Arc<dyn File>,
    /// The same file, open for writing.
    writer: Arc<dyn File>,
    reads_left: Arc<AtomicU64>,
    deed: Arc<Deed>,
}

impl FileSystem for Meddled {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(MeddledFile {
            file: self.files.open(path, mode)?,
            writer: self.files.open(path, OpenMode::Write)?,
            reads_left: Arc::clone(&self.reads_left),
            deed: Arc::clone(&self.deed),
        }))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.files.metadata(path)
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        unreachable!("volumes are only read")
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        unreachable!("volumes are only read")
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        unreachable!("volumes are only read")
    }

    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        unreachable!("volumes are only read")
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        unreachable!("volumes are only read")
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        unreachable!("volumes are only read")
    }

    fn bytes_free(&self, _: &Path) -> io::Result<u64> {
        unreachable!("volumes are only read")
    }

    fn bytes_total(&self, _: &Path) -> io::Result<u64> {
        unreachable!("volumes are only read")
    }

    fn lock_holder(&self, _: &Path) -> Option<String> {
        unreachable!("volumes are only read")
    }
}

impl File for MeddledFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.reads_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            (self.deed)(&*self.writer);
        }
        self.file.read_at(bytes, offset)
    }

    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        unreachable!("volumes are only read")
    }

    fn sync(&self) -> io::Result<()> {
        unreachable!("volumes are only read")
    }

    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }

    fn set_bytes(&self, _: u64) -> io::Result<()> {
        unreachable!("volumes are only read")
    }

    fn preallocate(&self, _: u64, _: u64) -> io::Result<()> {
        unreachable!("volumes are only read")
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Extent>> {
        self.file.next_data(offset)
    }

    fn advise(&self, offset: u64, bytes: u64, will_need: bool) {
        self.file.advise(offset, bytes, will_need);
    }

    fn try_lock(&self) -> io::Result<bool> {
        unreachable!("volumes are only read")
    }

    fn try_lock_shared(&self) -> io::Result<bool> {
        unreachable!("volumes are only read")
    }
}

/// Names of files in the store that hold records or lists.
fn payload_files(disk: &Disk) -> Vec<String> {
    let paths = disk.paths().into_iter().map(|(path, _)| path.display().to_string());
    paths.filter(|path| path.contains("/segments/") || path.contains("/manifests/")).collect()
}

/// Two volumes of several chunks; the second is meddled with at read `n` counted over both.
fn meddle(n: u64, deed: Arc<Deed>) -> (Result<(), String>, usize, Vec<String>) {
    let disk = Disk::new(1);
    let luck = SeededLuck::new(7);
    for path in ["/a", "/b"] {
        let mut bytes = content(&luck, 700 * RECORD);
        luck.fill(&mut bytes);
        write(&disk, path, &bytes);
    }
    let reads_left = Arc::new(AtomicU64::new(n));
    let files = Meddled { files: disk.files(), reads_left, deed };
    let protection = protection_of(&disk, Arc::new(files), Arc::new(Scripted::default()));
    let agent = agent(&["/a", "/b"]);
    let made = make(&protection, &agent).map(drop).map_err(|trouble| trouble.message);
    let n_points = n_points(&protection, &agent);
    (made, n_points, payload_files(&disk))
}

#[test]
fn d_19_a_volume_cut_or_grown_under_its_reader_makes_no_point() {
    for n in 1..=6 {
        for bytes in [0, 1, 699 * RECORD as u64, 701 * RECORD as u64] {
            let deed = move |file: &dyn File| file.set_bytes(bytes).unwrap();
            let (made, n_points, left) = meddle(n, Arc::new(deed));
            let message = made.unwrap_err();
            let volume = if n <= 3 { "a" } else { "b" };
            assert!(message.contains(&format!("volume {volume} of agent web")), "{n}: {message}");
            assert!(message.contains("bytes when it was opened and has"), "{n} {bytes}: {message}");
            assert_eq!((n_points, left), (0, vec![]), "{n} {bytes}");
        }
    }
}

#[test]
fn an_error_of_the_volume_names_it_and_the_place_and_leaves_nothing() {
    let (files, store) = (Disk::new(1), Disk::new(2));
    let luck = SeededLuck::new(11);
    let volume = content(&luck, 900 * RECORD);
    write(&files, "/a", &volume);
    let protection = protection_of(&store, files.files(), Arc::new(Scripted::default()));
    let agent = agent(&["/a"]);
    for after in 0..3 {
        files.fail(Fault {
            which: Which::Reads,
            after,
            error: io::ErrorKind::Other,
            for_good: false,
        });
        let trouble = make(&protection, &agent).unwrap_err();
        assert!(
            trouble.message.contains("volume a of agent web: cannot read /a at byte"),
            "{trouble}"
        );
        assert!(!trouble.hint.is_empty());
        assert_eq!((n_points(&protection, &agent), payload_files(&store)), (0, vec![]));
        files.mend();
    }
    make(&protection, &agent).unwrap();
    assert!(read_back(&protection, "a", None).unwrap() == volume);
}

#[test]
fn a_missing_volume_is_named() {
    let disk = Disk::new(1);
    let protection = protection(&disk);
    let trouble = make(&protection, &agent(&["/gone"])).unwrap_err();
    assert_eq!(trouble.code, ErrorCode::BadRequest);
    assert!(
        trouble.message.contains("volume gone of agent web: /gone does not exist"),
        "{trouble}"
    );
}

#[test]
fn a_full_store_makes_no_point_and_the_next_attempt_does() {
    let (files, store) = (Disk::new(1), Disk::new(2));
    let luck = SeededLuck::new(13);
    let mut volume = vec![0; 900 * RECORD];
    luck.fill(&mut volume);
    write(&files, "/a", &volume);
    let agent = agent(&["/a"]);
    let mut protection = protection_of(&store, files.files(), Arc::new(Scripted::default()));
    for room in [0, 10 * RECORD as u64, 800 * RECORD as u64] {
        store.set_bytes_max(Some(store.bytes_used() + room));
        let trouble = make(&protection, &agent).unwrap_err();
        assert_eq!(trouble.code, ErrorCode::NoSpace, "{room}: {trouble}");
        store.mend();
        drop(protection);
        protection = protection_of(&store, files.files(), Arc::new(Scripted::default()));
        assert_eq!((n_points(&protection, &agent), payload_files(&store)), (0, vec![]), "{room}");
    }
    make(&protection, &agent).unwrap();
    assert!(read_back(&protection, "a", None).unwrap() == volume);
}

#[test]
fn a_store_that_cannot_be_written_says_so() {
    let (files, store) = (Disk::new(1), Disk::new(2));
    write(&files, "/a", &[1; 9 * RECORD]);
    let protection = protection_of(&store, files.files(), Arc::new(Scripted::default()));
    store.set_read_only(true);
    let trouble = make(&protection, &agent(&["/a"])).unwrap_err();
    assert_eq!(trouble.code, ErrorCode::RepositoryUnavailable, "{trouble}");
    assert!(!trouble.hint.is_empty());
}

#[test]
fn a_cancelled_protect_leaves_nothing_wherever_it_is_cancelled() {
    for n in 1..=6 {
        let progress = Arc::new(Progress::default());
        let wish = Arc::clone(&progress);
        let disk = Disk::new(1);
        let luck = SeededLuck::new(7);
        for path in ["/a", "/b"] {
            let mut bytes = vec![0; 700 * RECORD];
            luck.fill(&mut bytes);
            write(&disk, path, &bytes);
        }
        let deed: Arc<Deed> = Arc::new(move |_: &dyn File| wish.cancel());
        let files = Meddled { files: disk.files(), reads_left: Arc::new(AtomicU64::new(n)), deed };
        let protection = protection_of(&disk, Arc::new(files), Arc::new(Scripted::default()));
        let agent = agent(&["/a", "/b"]);
        let trouble = protection.protect(&agent, None, &progress).unwrap_err();
        assert!(trouble.message.contains("interrupted"), "{trouble}");
        assert_eq!((n_points(&protection, &agent), payload_files(&disk)), (0, vec![]), "{n}");
        make(&protection, &agent).unwrap();
    }
}

fn hooks(proceed_on_failure: bool) -> HooksRow {
    HooksRow {
        before: Some("/freeze".to_owned()),
        after: Some("/thaw".to_owned()),
        timeout_seconds: 60,
        proceed_on_failure,
    }
}

/// Which hooks ran, and whether a point was made, when these fail.
fn hooked(
    failing: &[&'static str],
    proceed: bool,
    path: &str,
) -> (Vec<String>, Result<Vec<String>, String>) {
    let disk = Disk::new(1);
    write(&disk, "/a", b"content");
    let runner = Arc::new(Scripted::default());
    *runner.failing.lock().unwrap() = failing.to_vec();
    let protection = protection_of(&disk, disk.files(), Arc::clone(&runner) as _);
    let agent = agent(&[path]);
    let made = make_with(&protection, &agent, &hooks(proceed));
    assert_eq!(n_points(&protection, &agent), usize::from(made.is_ok()));
    let ran = std::mem::take(&mut *runner.ran.lock().unwrap());
    (ran, made.map(|made| made.remarks).map_err(|trouble| trouble.message))
}

#[test]
fn hooks_run_around_the_reading_whatever_fails() {
    let (ran, made) = hooked(&[], false, "/a");
    assert_eq!(ran, ["/freeze before ", "/thaw after read"]);
    assert_eq!(made, Ok(vec![]));

    let (ran, made) = hooked(&["/freeze"], false, "/a");
    assert_eq!(ran, ["/freeze before ", "/thaw after failed"]);
    assert!(
        made.unwrap_err()
            .contains("hook before protecting agent web failed: /freeze ended with status 1")
    );

    let (ran, made) = hooked(&["/thaw"], false, "/a");
    assert_eq!(ran, ["/freeze before ", "/thaw after read"]);
    assert!(made.unwrap_err().contains("hook after"));

    let (ran, made) = hooked(&[], false, "/gone");
    assert_eq!(ran, ["/freeze before ", "/thaw after failed"]);
    assert!(made.unwrap_err().contains("/gone does not exist"));

    let (_, made) = hooked(&["/freeze", "/thaw"], true, "/a");
    assert_eq!(made.unwrap().len(), 2, "both failures are remarked");

    let (_, made) = hooked(&["/thaw"], false, "/gone");
    let message = made.unwrap_err();
    assert!(message.contains("and then: the hook after protecting"), "{message}");
}

#[test]
fn an_agent_is_protected_once_at_a_time() {
    let disk = Disk::new(1);
    write(&disk, "/a", b"content");
    let protection = protection(&disk);
    let agent = agent(&["/a"]);
    let claim = protection.claim(&agent).unwrap();
    assert_eq!(make(&protection, &agent).unwrap_err().code, ErrorCode::WrongState);
    drop(claim);
    make(&protection, &agent).unwrap();
}
