//! A list cut into windows: records that are read together, because they lie near each other in the
//! volume and so, mostly, in the same groups.

use std::iter::Peekable;

use offsite_model::Key;
use offsite_store::{ListEntry, Room, StoreError};

/// Bytes of a window at most.
pub(crate) const WINDOW_BYTES: usize = 4 << 20;
/// Zeros between records that are handed on as bytes up to here: so short a hole saves nothing and
/// breaks a file to pieces.
const HOLE_BYTES: u64 = 64 << 10;

/// Part of a volume without a hole, and where it stands in the window's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) offset: u64,
    pub(crate) at: usize,
    pub(crate) bytes: usize,
}

impl Run {
    /// The first byte of the volume behind it.
    pub(crate) const fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes as u64)
    }
}

/// A piece of work: records that fill a buffer, run by run.
#[derive(Default)]
pub(crate) struct Window {
    pub(crate) runs: Vec<Run>,
    pub(crate) bytes: usize,
    /// What is to be read.
    pub(crate) entries: Vec<ListEntry>,
    /// Where in the buffer zeros stand, and how many.
    zeros: Vec<(usize, usize)>,
}

impl Window {
    /// The offset of its first byte in the volume.
    pub(crate) fn offset(&self) -> u64 {
        self.runs.first().map_or(0, |run| run.offset)
    }

    /// Takes a record, if it still fits.
    fn take(&mut self, entry: &ListEntry) -> bool {
        let length = entry.length as usize;
        let gap = self.runs.last().map(|run| entry.offset.saturating_sub(run.end()));
        let gap = gap.filter(|gap| *gap <= HOLE_BYTES);
        let zeros = gap.map_or(0, |gap| gap as usize);
        let n = zeros.saturating_add(length);
        if !self.runs.is_empty() && self.bytes.saturating_add(n) > WINDOW_BYTES {
            return false;
        }
        match self.runs.last_mut().filter(|_| gap.is_some()) {
            Some(run) => run.bytes = run.bytes.saturating_add(n),
            None => self.runs.push(Run { offset: entry.offset, at: self.bytes, bytes: length }),
        }
        if zeros > 0 {
            self.zeros.push((self.bytes, zeros));
        }
        self.bytes = self.bytes.saturating_add(n);
        self.entries.push(*entry);
        true
    }

    /// Writes the zeros between its records; how many they are.
    pub(crate) fn fill_zeros(&self, buffer: &mut [u8]) -> usize {
        let mut n_filled = 0_usize;
        for (at, n) in &self.zeros {
            if let Some(zeros) = buffer.get_mut(*at..at.saturating_add(*n)) {
                zeros.fill(0);
                n_filled = n_filled.saturating_add(*n);
            }
        }
        n_filled
    }
}

/// The buffer of a window, by offsets of the volume.
pub(crate) struct Buffer<'a> {
    pub(crate) runs: &'a [Run],
    pub(crate) bytes: &'a mut [u8],
}

impl Room for Buffer<'_> {
    fn at(&mut self, offset: u64, bytes: usize) -> Option<&mut [u8]> {
        let later = self.runs.partition_point(|run| run.offset <= offset);
        let run = self.runs.get(later.checked_sub(1)?)?;
        let end = offset.checked_add(bytes as u64)?;
        let start = run.at.checked_add(usize::try_from(offset - run.offset).ok()?)?;
        self.bytes.get_mut(start..start.checked_add(bytes)?).filter(|_| end <= run.end())
    }
}

/// The windows of a list, in order. What lies between their runs is zeros.
pub(crate) struct Windows<I: Iterator<Item = Result<ListEntry, StoreError>>> {
    list: Peekable<I>,
}

impl<I: Iterator<Item = Result<ListEntry, StoreError>>> Windows<I> {
    pub(crate) fn new(list: I) -> Self {
        Self { list: list.peekable() }
    }
}

impl<I: Iterator<Item = Result<ListEntry, StoreError>>> Iterator for Windows<I> {
    type Item = Result<Window, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut window = Window::default();
        loop {
            let fits = match self.list.peek() {
                Some(Ok(entry)) => entry.key == Key::ZERO || window.take(entry),
                Some(Err(_)) => window.entries.is_empty(),
                None => false,
            };
            if !fits {
                break;
            }
            if let Some(Err(error)) = self.list.next() {
                return Some(Err(error));
            }
        }
        (!window.entries.is_empty()).then_some(Ok(window))
    }
}
