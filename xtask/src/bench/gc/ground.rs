//! A target a tenth of which is garbage, and copies of it: every measurement begins with the same.
//!
//! The garbage is noise that an older state of the kept machine had in place of what it has now, in
//! pieces all over the volume, so that it lies among what is alive. That state was replicated
//! first, its point deleted at the target, and its deletion made final by two persons.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::bench::step::clear;
use crate::cores::{self, Core};
use crate::machines::{Machine, noise};

/// Of so many stored bytes one is garbage.
const GARBAGE_ONE_IN: u64 = 10;
/// Where the older state differs is shifted by this, so that pieces do not begin where groups do.
const SHIFT: u64 = 36 << 10;

/// The state that every measurement begins with; its daemons do not run.
pub(super) struct Ground {
    begun: Pair,
}

/// A source and a target that are paired.
pub(super) struct Pair {
    folder: PathBuf,
    pub(super) source: Core,
    pub(super) target: Core,
}

impl Ground {
    /// Replicates the kept machine with its older state, removes that for good at the target, and
    /// keeps the other machine at the source.
    pub(super) fn make(
        programs: &Path,
        place: &Path,
        kept: &Machine,
        coming: &Machine,
        extent_kib: u32,
    ) -> Result<Self> {
        fs::create_dir_all(place)?;
        let newest = kept.versions.last().context("a machine without versions")?;
        let live_bytes = stored_bytes(programs, place, kept)?;
        let older = place.join("older.img");
        overwrite(newest, &older, live_bytes / (GARBAGE_ONE_IN - 1), u64::from(extent_kib) << 10)?;
        let versions = [&[older.clone()][..], &kept.versions].concat();
        let kept = Machine { name: kept.name.clone(), versions };
        let folder = place.join("begun");
        fs::create_dir_all(&folder)?;
        let mut begun = Pair {
            source: Core::source(programs, &folder, "source")?,
            target: Core::target(programs, &folder, "target")?,
            folder,
        };
        for core in [&begun.source, &begun.target] {
            // Nothing is to run beside that nobody asked for.
            core.configure("[collect]", "every = \"0s\"")?;
            core.configure("[scrub]", "every = \"0s\"")?;
        }
        begun.serve()?;
        begun.source.attach(&kept, 0, &begun.folder)?;
        begun.source.attach(coming, 0, &begun.folder)?;
        cores::pair(&begun.source, &begun.target, &[&kept.name, &coming.name])?;
        for version in 0..kept.versions.len() {
            begun.source.attach(&kept, version, &begun.folder)?;
            begun.source.json(&["protect", &kept.name])?;
            begun.source.json(&["replicate", &kept.name, "--wait"])?;
        }
        begun.remove_oldest(&kept)?;
        let newest = coming.versions.len().saturating_sub(1);
        begun.source.attach(coming, newest, &begun.folder)?;
        begun.source.json(&["protect", &coming.name])?;
        begun.stop()?;
        clear(&older)?;
        Ok(Self { begun })
    }

    /// A copy whose daemons run.
    pub(super) fn copy(&self) -> Result<Pair> {
        let folder = self.begun.folder.with_file_name("now");
        clear(&folder)?;
        fs::create_dir_all(&folder)?;
        let source = self.begun.source.copy(&[], &folder.join("source"))?;
        let target = self.begun.target.copy(&[], &folder.join("target"))?;
        let mut pair = Pair { folder, source, target };
        pair.serve()?;
        Ok(pair)
    }

    /// Writes a file of so many bytes of what the target keeps.
    pub(super) fn write_segments(&self, to: &Path, n_bytes: u64) -> Result<()> {
        let mut file = File::create(to)?;
        let mut left = n_bytes;
        while left > 0 {
            for path in segments(self.begun.target.data())? {
                left -= std::io::copy(&mut File::open(path)?.take(left), &mut file)?;
            }
            ensure!(left < n_bytes, "the target keeps nothing");
        }
        file.flush()?;
        Ok(file.sync_all()?)
    }
}

impl Pair {
    fn serve(&mut self) -> Result<()> {
        self.target.serve()?;
        self.source.serve()
    }

    /// Ends both daemons.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.source.stop()?;
        self.target.stop()
    }

    pub(super) fn daemons(&self) -> Vec<u32> {
        self.source.pid().into_iter().chain(self.target.pid()).collect()
    }

    /// Bytes of the files in which the target keeps records.
    pub(super) fn segment_bytes(&self) -> Result<u64> {
        let sizes = segments(self.target.data())?.into_iter().map(|path| path.metadata());
        let sizes = sizes.map(|metadata| Ok(metadata?.len()));
        sizes.sum()
    }

    /// Writes what the target holds, while its daemon does not run; the image it has to be.
    pub(super) fn restore<'a>(&self, machine: &'a Machine, to: &Path) -> Result<&'a Path> {
        let place = to.to_str().context("a path that is not UTF-8")?;
        self.target.json(&["restore", &machine.name, "disk", "--to", place, "--offline"])?;
        Ok(machine.versions.last().context("a machine without versions")?)
    }

    /// Removes both.
    pub(super) fn clear(self) -> Result<()> {
        let folder = self.folder.clone();
        drop(self);
        clear(&folder)
    }

    /// Deletes the first point of a machine at the target and makes that final, by two persons.
    fn remove_oldest(&self, machine: &Machine) -> Result<()> {
        let points = self.target.json(&["points", "list", &machine.name])?;
        let point = points[0]["id"].as_str().context("a point")?.to_owned();
        let password = self.folder.join("second.password");
        fs::write(&password, "correct horse battery\n")?;
        let password = password.to_str().context("a path that is not UTF-8")?;
        let add = ["users", "add", "second", "--role", "officer", "--password-file", password];
        self.target.json(&add)?;
        let login = ["login", "--user", "second", "--password-file", password];
        let said = self.target.command(&login).output()?;
        ensure!(said.status.success(), "the second person cannot log in");
        let token = self.folder.join("second.token");
        fs::write(&token, said.stdout)?;
        let token = token.to_str().context("a path that is not UTF-8")?;
        self.target.json(&["points", "delete", &point])?;
        let asked = self.target.json(&["points", "purge", &point])?;
        let id = asked["approval_id"].as_str().context("an approval")?;
        self.target.json(&["approvals", "approve", id, "--token-file", token])?;
        Ok(())
    }
}

fn segments(data: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(data.join("store/segments"))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    paths.sort();
    Ok(paths)
}

/// What the newest version of a machine takes in a store that has nothing else.
fn stored_bytes(programs: &Path, place: &Path, machine: &Machine) -> Result<u64> {
    let folder = place.join("sized");
    fs::create_dir_all(&folder)?;
    let mut source = Core::source(programs, &folder, "source")?;
    source.serve()?;
    let newest = machine.versions.len().saturating_sub(1);
    source.attach(machine, newest, &folder)?;
    let said = source.json(&["protect", &machine.name])?;
    drop(source);
    clear(&folder)?;
    said["stored_bytes"].as_u64().context("what was stored")
}

/// Copies an image and overwrites about so many bytes of what is not zeros, in pieces as even as
/// can be over all of it.
fn overwrite(image: &Path, to: &Path, n_bytes: u64, extent: u64) -> Result<()> {
    fs::copy(image, to)?;
    let file = File::options().read(true).write(true).open(to)?;
    let n_extents = file.metadata()?.len().saturating_sub(SHIFT) / extent;
    let mut bytes = vec![0; usize::try_from(extent)?];
    let mut full = Vec::new();
    for index in 0..n_extents {
        let at = SHIFT + index * extent;
        file.read_exact_at(&mut bytes, at)?;
        if bytes.iter().any(|byte| *byte != 0) {
            full.push(at);
        }
    }
    let n_wanted = n_bytes.div_ceil(extent).clamp(1, full.len() as u64);
    for n in 0..n_wanted {
        let index = usize::try_from(n * full.len() as u64 / n_wanted)?;
        let at = *full.get(index).context("an image of zeros")?;
        file.write_all_at(&noise(1 + n, bytes.len()), at)?;
    }
    Ok(file.sync_all()?)
}
