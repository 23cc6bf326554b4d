//! A real ext4 image of this machine's own files, and the same file system a while later: files
//! gone, files come. No mount and no right of root is needed.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::show::{say, size};
use crate::tools;

/// Size of the file system.
const IMAGE_BYTES: u64 = 5 << 28;
/// Files of the first version.
const FIRST_BYTES: u64 = 3 << 28;
/// Files that come with the second version.
const LATER_BYTES: u64 = 24 << 20;
/// Every so many of the first files goes away before the second version.
const REMOVED_OF: usize = 50;
const BLOCK: u64 = 4096;

/// Makes both versions; the images that were made last time are made anew.
pub(super) fn make(folder: &Path) -> Result<Vec<PathBuf>> {
    drop(fs::remove_dir_all(folder));
    let (first, next) = (folder.join("machine-rp0.img"), folder.join("machine-rp1.img"));
    let tree = folder.join("tree");
    fs::create_dir_all(&tree)?;
    let mut files = Vec::new();
    for place in ["/etc", "/usr/bin", "/usr/share", "/usr/lib", "/usr/local"] {
        walk(Path::new(place), &mut files);
    }
    ensure!(!files.is_empty(), "no file below /usr can be read");
    let (early, later) = split(&files)?;
    let mut kept = Vec::new();
    for file in early {
        let relative = file.strip_prefix("/").unwrap_or(file);
        let to = tree.join(relative);
        fs::create_dir_all(to.parent().context("a file stands in a folder")?)?;
        // What cannot be read by this user, or has just gone, is left out.
        if fs::copy(file, &to).is_ok() {
            kept.push(relative.to_owned());
        }
    }
    File::create(&first)?.set_len(IMAGE_BYTES)?;
    let mut format = tool("mkfs.ext4")?;
    format.args(["-q", "-F", "-L", "demo", "-d"]).arg(&tree).arg(&first);
    quiet(&mut format)?;
    fs::remove_dir_all(&tree)?;
    // `cp` keeps the holes.
    quiet(Command::new("cp").arg("--sparse=always").args([&first, &next]))?;
    change(&next, &kept, later, folder)?;
    let (n_changed, n_blocks) = changed(&first, &next)?;
    ensure!(n_changed * 100 >= n_blocks, "the second version changes {n_changed} blocks only");
    say(&format!(
        "ext4 of {} with {} files; then {} blocks of {n_blocks} ({:.1} %) changed",
        size(IMAGE_BYTES),
        kept.len(),
        n_changed,
        100.0 * n_changed as f64 / n_blocks as f64
    ));
    Ok(vec![first, next])
}

/// Regular files below a folder, in the order of their names.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), files),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
}

/// The files of the first version and those that come later.
fn split(files: &[PathBuf]) -> Result<(&[PathBuf], &[PathBuf])> {
    let place = |files: &[PathBuf], bytes: u64| {
        let mut sum = 0;
        let is_full = |file: &PathBuf| {
            sum += fs::metadata(file).map_or(0, |metadata| metadata.len() + BLOCK);
            sum > bytes
        };
        files.iter().position(is_full).unwrap_or(files.len())
    };
    // A small machine has fewer files than fit: then the last ones come later.
    let n_early = place(files, FIRST_BYTES).min(files.len() - files.len() / 10);
    let (early, rest) = files.split_at_checked(n_early).context("a place in the list")?;
    let later = rest.get(..place(rest, LATER_BYTES)).context("a place in the list")?;
    Ok((early, later))
}

/// Makes the second version as a file system makes it: files are unlinked, files are written.
fn change(image: &Path, kept: &[PathBuf], later: &[PathBuf], folder: &Path) -> Result<()> {
    let script = folder.join("changes");
    let mut orders = File::create(&script)?;
    for file in kept.iter().step_by(REMOVED_OF) {
        writeln!(orders, "rm \"/{}\"", file.display())?;
    }
    writeln!(orders, "mkdir /later")?;
    for (index, file) in later.iter().enumerate() {
        writeln!(orders, "write \"{}\" /later/{index}", file.display())?;
    }
    drop(orders);
    quiet(tool("debugfs")?.arg("-w").arg("-f").args([&script, image]))?;
    fs::remove_file(script)?;
    Ok(())
}

/// Blocks that differ, and blocks in all.
fn changed(a: &Path, b: &Path) -> Result<(u64, u64)> {
    let (a, b) = (File::open(a)?, File::open(b)?);
    let n_blocks = a.metadata()?.size() / BLOCK;
    let (mut ours, mut theirs) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut n_changed = 0;
    for at in (0..n_blocks * BLOCK).step_by(ours.len()) {
        a.read_exact_at(&mut ours, at)?;
        b.read_exact_at(&mut theirs, at)?;
        let pairs = ours.chunks(BLOCK as usize).zip(theirs.chunks(BLOCK as usize));
        n_changed += pairs.filter(|(a, b)| a != b).count() as u64;
    }
    Ok((n_changed, n_blocks))
}

fn tool(name: &str) -> Result<Command> {
    Ok(Command::new(tools::find(name).with_context(|| format!("{name} is not there"))?))
}

/// Runs a program that says something only when it fails.
fn quiet(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
    Ok(())
}
