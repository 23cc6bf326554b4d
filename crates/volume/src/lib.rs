//! A volume as sparse extents: what is read to protect a machine, and what is written to bring it
//! back.
//!
//! A [`Volume`] is a raw image file or a block device opened for reading; [`Volume::chunks`] walks
//! the parts of it that may hold data, at the boundaries of records, so that holes are never read.
//! A [`Destination`] is a file or device that a restore writes; zeros become holes, and nothing
//! existing is overwritten unasked. A [`Writer`] fills it in order and hashes what it writes.
//!
//! **Absent:** `std::fs`: bytes come through [`offsite_model::FileSystem`]. Records, keys and
//! stores.

mod destination;
mod error;
mod extents;
mod source;
mod writer;
mod zeros;

pub use destination::{Destination, Overwrite};
pub use error::VolumeError;
pub use extents::{Chunk, Chunks};
pub use source::Volume;
pub use writer::Writer;
pub use zeros::is_zero;

#[cfg(test)]
mod tests;
