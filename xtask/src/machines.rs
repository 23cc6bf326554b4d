//! Disk images by machine: given ones, or a small set that is made here.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Size of a made image.
const SMALL_BYTES: u64 = 48 << 20;

/// A machine and its versions.
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) versions: Vec<PathBuf>,
}

/// Sorts images by machine: what stands before `-rp` in their names.
pub(crate) fn by_machine(images: &[PathBuf]) -> Result<Vec<Machine>> {
    let mut machines: Vec<Machine> = Vec::new();
    for image in images {
        let image = image.canonicalize().with_context(|| image.display().to_string())?;
        let stem = image.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = stem.split_once("-rp").map_or(stem.as_str(), |(name, _)| name).to_owned();
        match machines.iter_mut().find(|machine| machine.name == name) {
            Some(machine) => machine.versions.push(image),
            None => machines.push(Machine { name, versions: vec![image] }),
        }
    }
    Ok(machines)
}

/// Makes two versions of one machine and one of another, with holes, text and noise; the same every
/// time.
pub(crate) fn small(folder: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder)?;
    let first = folder.join("a-rp0.img");
    let file = File::create(&first)?;
    file.set_len(SMALL_BYTES + 4_321)?;
    fill(&file, 1)?;
    let next = folder.join("a-rp1.img");
    fs::copy(&first, &next)?;
    let changed = File::options().write(true).open(&next)?;
    for index in 0..40 {
        changed.write_all_at(&noise(1_000 + index, 12_000), index * 1_100_000)?;
    }
    let other = folder.join("b-rp0.img");
    let file = File::create(&other)?;
    file.set_len(SMALL_BYTES)?;
    fill(&file, 2)?;
    Ok(vec![first, next, other])
}

fn fill(file: &File, seed: u64) -> Result<()> {
    for mib in 0..SMALL_BYTES >> 20 {
        let bytes = match mib % 4 {
            0 => continue,
            1 => noise(seed * 10_000 + mib, 1 << 20),
            _ => text(seed * 10_000 + mib, 1 << 20),
        };
        file.write_all_at(&bytes, mib << 20)?;
    }
    Ok(())
}

/// Bytes that do not compress, the same for a seed.
pub(crate) fn noise(seed: u64, n: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(n).collect()
}

fn text(seed: u64, n: usize) -> Vec<u8> {
    let words = noise(seed, n / 4);
    let lines = words
        .iter()
        .flat_map(|byte| format!("request {byte} served in {} ms\n", byte / 7).into_bytes());
    lines.take(n).collect()
}
