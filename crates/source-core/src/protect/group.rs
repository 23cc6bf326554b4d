//! Gathering new records into groups, in the order of the volume.

use std::ops::Range;
use std::sync::Arc;

use offsite_model::Key;
use offsite_store::group::{CheckedGroup, Form, GROUP_RECORDS_MAX, GroupError};

use super::buffers::Buffer;

/// Where a record's bytes lie.
enum Bytes {
    /// In the buffer that was read.
    Shared(Arc<Buffer>, Range<usize>),
    /// In the group's own copy: a buffer of which little is new is let go at once.
    Copied(Range<usize>),
}

/// A group that is being gathered.
#[derive(Default)]
pub(super) struct Draft {
    records: Vec<(Key, Bytes)>,
    copies: Vec<u8>,
    raw_bytes: usize,
}

impl Draft {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether a record of this length still fits a group of `group_bytes`.
    pub(super) fn takes(&self, n: usize, group_bytes: usize) -> bool {
        self.records.is_empty()
            || (self.records.len() < GROUP_RECORDS_MAX
                && self.raw_bytes.saturating_add(n) <= group_bytes)
    }

    pub(super) fn share(&mut self, key: Key, buffer: &Arc<Buffer>, range: Range<usize>) {
        self.raw_bytes = self.raw_bytes.saturating_add(range.len());
        self.records.push((key, Bytes::Shared(Arc::clone(buffer), range)));
    }

    pub(super) fn copy(&mut self, key: Key, bytes: &[u8]) {
        let start = self.copies.len();
        self.copies.extend_from_slice(bytes);
        self.raw_bytes = self.raw_bytes.saturating_add(bytes.len());
        self.records.push((key, Bytes::Copied(start..self.copies.len())));
    }

    /// Compresses it.
    pub(super) fn encode(self, level: i32) -> Result<CheckedGroup, GroupError> {
        let records: Vec<(Key, &[u8])> = self
            .records
            .iter()
            .map(|(key, bytes)| {
                let bytes = match bytes {
                    Bytes::Shared(buffer, range) => buffer.bytes.get(range.clone()),
                    Bytes::Copied(range) => self.copies.get(range.clone()),
                };
                // A range that was not there would fail the check of its key.
                (*key, bytes.unwrap_or_default())
            })
            .collect();
        CheckedGroup::encode(Form::Plain, &records, level)
    }
}
