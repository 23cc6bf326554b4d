//! Walking the parts of a volume that may hold data, at the boundaries of records.

use offsite_model::Extent;

use crate::error::VolumeError;
use crate::source::Volume;

/// A part of a volume that may hold data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// First byte, a multiple of the record.
    pub offset: u64,
    /// Length in bytes, never 0; a multiple of the record except at the end of the volume.
    pub bytes: u32,
}

/// Iterator over [`Chunk`]s, ascending and without overlap. What lies between them is a hole.
pub struct Chunks<'a> {
    volume: &'a Volume,
    record_bytes: u64,
    chunk_bytes: u64,
    /// Everything before has been handed out or is a hole.
    position: u64,
    /// End of the extent in hand, a boundary of records.
    extent_end: u64,
}

// Here and not beside the other methods, so that a volume need not know how it is walked.
impl Volume {
    /// The parts that may hold data, ascending, each starting at a multiple of `record_bytes` and
    /// at most `chunk_bytes` long.
    #[must_use]
    pub fn chunks(&self, record_bytes: u32, chunk_bytes: u32) -> Chunks<'_> {
        Chunks::new(self, record_bytes, chunk_bytes)
    }
}

impl<'a> Chunks<'a> {
    fn new(volume: &'a Volume, record_bytes: u32, chunk_bytes: u32) -> Self {
        let record_bytes = u64::from(record_bytes.max(1));
        let chunk_bytes = (u64::from(chunk_bytes) / record_bytes).max(1) * record_bytes;
        Self { volume, record_bytes, chunk_bytes, position: 0, extent_end: 0 }
    }

    /// Moves to the next extent; `false` at the end of the volume.
    fn next_extent(&mut self) -> Result<bool, VolumeError> {
        let found = self.volume.file().next_data(self.position);
        let found = found.map_err(|error| self.volume.io("find data in", self.position, error))?;
        let Some(Extent { offset, bytes }) = found else {
            self.position = self.volume.bytes();
            return Ok(false);
        };
        // An extent rarely starts at a record; what precedes it in the record reads as zeros.
        let start = offset / self.record_bytes * self.record_bytes;
        let end = offset.saturating_add(bytes).div_ceil(self.record_bytes);
        self.position = self.position.max(start);
        self.extent_end = end.saturating_mul(self.record_bytes).min(self.volume.bytes());
        Ok(self.position < self.extent_end)
    }
}

impl Iterator for Chunks<'_> {
    type Item = Result<Chunk, VolumeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position >= self.extent_end {
            if self.position >= self.volume.bytes() {
                return None;
            }
            match self.next_extent() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.position = self.volume.bytes();
                    return Some(Err(error));
                }
            }
        }
        let bytes = (self.extent_end - self.position).min(self.chunk_bytes);
        let chunk =
            Chunk { offset: self.position, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) };
        self.position += bytes;
        Some(Ok(chunk))
    }
}
