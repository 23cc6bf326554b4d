//! The bytes of a file: what is seen, what is durable, and the changes between the two.

use std::sync::Arc;

use super::dice::Dice;

pub(super) const PAGE_BYTES: usize = 4096;
/// What a disk writes whole: a torn write is torn here.
const SECTOR_BYTES: u64 = 512;

/// Bytes in pages that are shared until one of their owners changes them; a missing page is a hole.
#[derive(Clone, Default)]
pub(super) struct Content {
    pages: Vec<Option<Arc<[u8; PAGE_BYTES]>>>,
    bytes: u64,
}

impl Content {
    pub(super) fn from_slice(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        content.write(bytes, 0);
        content
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.bytes as usize];
        self.read(&mut bytes, 0);
        bytes
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn bytes_held(&self) -> u64 {
        (self.pages.iter().flatten().count() * PAGE_BYTES) as u64
    }

    pub(super) fn has_page(&self, index: u64) -> bool {
        self.pages.get(index as usize).is_some_and(Option::is_some)
    }

    /// Pages that a write to this range would add.
    pub(super) fn pages_missing(&self, bytes: u64, offset: u64) -> u64 {
        if bytes == 0 {
            return 0;
        }
        let (first, last) = (offset / PAGE_BYTES as u64, (offset + bytes - 1) / PAGE_BYTES as u64);
        (first..=last).filter(|&index| !self.has_page(index)).count() as u64
    }

    pub(super) fn read(&self, out: &mut [u8], offset: u64) -> usize {
        let n = out.len().min(self.bytes.saturating_sub(offset) as usize);
        let mut done = 0;
        while done < n {
            let place = offset as usize + done;
            let (page, start) = (place / PAGE_BYTES, place % PAGE_BYTES);
            let piece = (PAGE_BYTES - start).min(n - done);
            match self.pages.get(page) {
                Some(Some(page)) => {
                    out[done..done + piece].copy_from_slice(&page[start..start + piece]);
                }
                _ => out[done..done + piece].fill(0),
            }
            done += piece;
        }
        n
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len() as u64;
        if end > self.bytes {
            self.set_bytes(end);
        }
        let mut done = 0;
        while done < bytes.len() {
            let place = offset as usize + done;
            let (page, start) = (place / PAGE_BYTES, place % PAGE_BYTES);
            let piece = (PAGE_BYTES - start).min(bytes.len() - done);
            let page = self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(page)[start..start + piece].copy_from_slice(&bytes[done..done + piece]);
            done += piece;
        }
    }

    /// Gives every hole in a range one and the same page of zeros; the length grows to its end.
    fn fill_holes(&mut self, offset: u64, bytes: u64) {
        let zeros = Arc::new([0; PAGE_BYTES]);
        if self.bytes < offset + bytes {
            self.set_bytes(offset + bytes);
        }
        let page_bytes = PAGE_BYTES as u64;
        let first = (offset / page_bytes) as usize;
        let n = ((offset + bytes).div_ceil(page_bytes) as usize).saturating_sub(first);
        for page in self.pages.iter_mut().skip(first).take(n) {
            page.get_or_insert_with(|| Arc::clone(&zeros));
        }
    }

    pub(super) fn set_bytes(&mut self, bytes: u64) {
        self.pages.resize((bytes as usize).div_ceil(PAGE_BYTES), None);
        let within = bytes as usize % PAGE_BYTES;
        if bytes < self.bytes
            && within > 0
            && let Some(Some(page)) = self.pages.last_mut()
        {
            // What is cut off must not come back when the file grows again.
            Arc::make_mut(page)[within..].fill(0);
        }
        self.bytes = bytes;
    }
}

/// A change that no sync has made durable yet.
enum Change {
    Write { offset: u64, bytes: Box<[u8]> },
    Resize(u64),
    Fill { offset: u64, bytes: u64 },
}

impl Change {
    fn apply(&self, content: &mut Content) {
        match self {
            Self::Write { offset, bytes } => content.write(bytes, *offset),
            Self::Resize(bytes) => content.set_bytes(*bytes),
            Self::Fill { offset, bytes } => content.fill_holes(*offset, *bytes),
        }
    }
}

/// Who holds a file's advisory lock: one alone, or several that share it.
#[derive(Default)]
pub(super) struct Lock {
    holders: Vec<u64>,
    is_shared: bool,
}

impl Lock {
    pub(super) fn take_alone(&mut self, id: u64) -> bool {
        let is_free = self.holders.iter().all(|holder| *holder == id);
        if is_free {
            *self = Self { holders: vec![id], is_shared: false };
        }
        is_free
    }

    pub(super) fn share(&mut self, id: u64) -> bool {
        let is_free = self.is_shared || self.holders.iter().all(|holder| *holder == id);
        if is_free {
            self.is_shared = true;
            if !self.holders.contains(&id) {
                self.holders.push(id);
            }
        }
        is_free
    }

    pub(super) fn let_go(&mut self, id: u64) {
        self.holders.retain(|holder| *holder != id);
    }

    pub(super) fn is_held(&self) -> bool {
        !self.holders.is_empty()
    }
}

/// A file as the disk holds it.
#[derive(Default)]
pub(super) struct Stored {
    pub(super) seen: Content,
    durable: Content,
    pending: Vec<Change>,
    /// The open files that hold the advisory lock.
    pub(super) locked_by: Lock,
}

impl Stored {
    pub(super) fn durable(content: Content) -> Self {
        Self { seen: content.clone(), durable: content, ..Self::default() }
    }

    /// A copy in which everything seen counts as durable or pending just as here.
    pub(super) fn fork(&self) -> Self {
        let pending = self.pending.iter().map(|change| match change {
            Change::Write { offset, bytes } => {
                Change::Write { offset: *offset, bytes: bytes.clone() }
            }
            Change::Resize(bytes) => Change::Resize(*bytes),
            Change::Fill { offset, bytes } => Change::Fill { offset: *offset, bytes: *bytes },
        });
        Self {
            seen: self.seen.clone(),
            durable: self.durable.clone(),
            pending: pending.collect(),
            locked_by: Lock::default(),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        self.seen.write(bytes, offset);
        self.pending.push(Change::Write { offset, bytes: bytes.into() });
    }

    pub(super) fn resize(&mut self, bytes: u64) {
        self.seen.set_bytes(bytes);
        self.pending.push(Change::Resize(bytes));
    }

    /// Gives every hole in a range a page of zeros.
    pub(super) fn fill_holes(&mut self, offset: u64, bytes: u64) {
        self.seen.fill_holes(offset, bytes);
        self.pending.push(Change::Fill { offset, bytes });
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// A sync that fails: part of what it should have saved is lost for good, though it still
    /// reads back and no later sync will notice.
    pub(super) fn fail_sync(&mut self, dice: &mut Dice) {
        self.keep_some(dice);
    }

    /// The power fails.
    pub(super) fn survive(&mut self, dice: &mut Dice) {
        if !self.pending.is_empty() {
            let bytes_seen = self.seen.bytes();
            self.keep_some(dice);
            self.stretch(bytes_seen, dice);
        }
        self.seen = self.durable.clone();
    }

    /// Keeps each sector of each pending write, and each change of length, by chance.
    fn keep_some(&mut self, dice: &mut Dice) {
        let chance = [0, 10, 50, 90, 100][dice.below(5) as usize];
        for change in self.pending.drain(..) {
            match change {
                Change::Resize(bytes) => {
                    if dice.percent(chance) {
                        self.durable.set_bytes(bytes);
                    }
                }
                Change::Fill { offset, bytes } => {
                    if dice.percent(chance) {
                        self.durable.fill_holes(offset, bytes);
                    }
                }
                Change::Write { offset, bytes } => {
                    let mut rest = &bytes[..];
                    let mut place = offset;
                    while !rest.is_empty() {
                        let room = (SECTOR_BYTES - place % SECTOR_BYTES) as usize;
                        let (piece, after) = rest.split_at(room.min(rest.len()));
                        if dice.percent(chance) {
                            self.durable.write(piece, place);
                        }
                        place += piece.len() as u64;
                        rest = after;
                    }
                }
            }
        }
    }

    /// A length may become durable before the bytes do; what was never written then reads as zeros
    /// or, on careless file systems, as whatever the blocks held before.
    fn stretch(&mut self, bytes_seen: u64, dice: &mut Dice) {
        let bytes = self.durable.bytes();
        if bytes_seen <= bytes || !dice.percent(25) {
            return;
        }
        let stretched = bytes + 1 + dice.below(bytes_seen - bytes);
        if dice.percent(25) {
            let fill = (0..(stretched - bytes).min(SECTOR_BYTES)).map(|_| dice.next() as u8);
            let fill: Vec<u8> = fill.collect();
            self.durable.write(&fill, bytes);
        }
        self.durable.set_bytes(stretched);
    }
}
