//! One sample of every layout, and a reader that turns its bytes back into the same bytes.

use offsite_model::{Key, SessionId};

use crate::bitmap::{Bitmap, Run, write_runs};
use crate::codec::{DecodeError, Reader};
use crate::group::{Codec, Group, GroupEntry};
use crate::stream::{Decoder, Encoder, End, Flushed, Opcode, StreamKind, read_credit};
use crate::window::{KeyWindow, ListEntry, Wanted};

/// Reads bytes as the layout and writes what was understood.
pub(super) type Again = fn(&[u8]) -> Result<Vec<u8>, DecodeError>;

pub(super) struct Layout {
    pub(super) name: &'static str,
    pub(super) sample: Vec<u8>,
    pub(super) again: Again,
}

pub(super) const SESSION: SessionId = SessionId::from_bytes([7; 16]);

fn key(n: u8) -> Key {
    Key::from_bytes([n; 32])
}

fn group_again(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut reader = Reader::new("a group", bytes);
    let group = Group::read(&mut reader)?;
    reader.finish()?;
    let mut out = Vec::new();
    group.write(&mut out);
    Ok(out)
}

fn stream_again(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut decoder = Decoder::new(StreamKind::Receipt, SESSION);
    let mut encoder = Encoder::new(StreamKind::Receipt, SESSION);
    // Byte by byte, the worst that a line may do.
    for byte in bytes {
        decoder.push(&[*byte]);
        while let Some(frame) = decoder.next_frame()? {
            encoder.frame(frame.channel, frame.opcode, &[&frame.payload])?;
        }
    }
    decoder.finish()?;
    Ok(encoder.take().to_vec())
}

fn bitmap_again(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let bitmap = Bitmap::read(bytes)?;
    let mut runs = Vec::new();
    bitmap.runs(|run| runs.push(run))?;
    let Bitmap { block_bytes, epoch, capacity_blocks, flushed_through, .. } = bitmap;
    Ok(write_runs(block_bytes, epoch, capacity_blocks, flushed_through, &runs))
}

fn plain_group() -> Vec<u8> {
    let table = [GroupEntry::new(5, key(1), 4), GroupEntry::new(9, key(2), 2)];
    let mut out = Vec::new();
    Group {
        codec: Codec::None,
        is_encrypted: true,
        raw_bytes: 6,
        table: &table,
        payload: b"abcdef",
    }
    .write(&mut out);
    out
}

fn zstd_group() -> Vec<u8> {
    let table = [GroupEntry::new(0, key(3), 1 << 14)];
    let mut out = Vec::new();
    Group {
        codec: Codec::Zstd,
        is_encrypted: false,
        raw_bytes: 1 << 14,
        table: &table,
        payload: b"a frame that nobody decodes here",
    }
    .write(&mut out);
    out
}

fn window() -> Vec<u8> {
    let entries = [
        ListEntry::record(0, 16384, key(1)),
        ListEntry::zeros(16384, 1 << 31),
        ListEntry::record((1 << 31) + 16384, 1, key(2)),
    ];
    KeyWindow { window: 3, first_ordinal: 24576, entries: &entries }.write()
}

fn wanted() -> Vec<u8> {
    let bits: Vec<bool> = (0..11).map(|n| n % 3 == 0).collect();
    Wanted::new(3, 24576, &bits).write()
}

fn stream() -> Vec<u8> {
    let mut encoder = Encoder::new(StreamKind::Receipt, SESSION);
    let frames: [(Opcode, Vec<u8>); 6] = [
        (Opcode::Credit, (1_u64 << 24).to_le_bytes().to_vec()),
        (Opcode::Flushed, Flushed { through: 77, bytes: 1 << 20 }.write()),
        (Opcode::Ping, Vec::new()),
        (Opcode::Other(0x8001), b"may be skipped".to_vec()),
        (Opcode::Wanted, wanted()),
        (Opcode::End, End { items: 78, bytes: 1 << 21 }.write()),
    ];
    for (opcode, payload) in frames {
        encoder.frame(1, opcode, &[&payload]).unwrap();
    }
    encoder.take().to_vec()
}

pub(super) fn all() -> Vec<Layout> {
    let runs = [Run { start: 1, count: 2 }, Run { start: 1 << 33, count: 1 << 20 }];
    let layout = |name, sample, again: Again| Layout { name, sample, again };
    vec![
        layout("group_plain", plain_group(), group_again),
        layout("group_zstd", zstd_group(), group_again),
        layout("window", window(), |bytes| KeyWindow::read(bytes).map(|window| window.write())),
        layout("wanted", wanted(), |bytes| Wanted::read(bytes).map(|wanted| wanted.write())),
        layout("flushed", Flushed { through: 1, bytes: 2 }.write(), |bytes| {
            Flushed::read(bytes).map(|flushed| flushed.write())
        }),
        layout("end", End { items: 3, bytes: u64::MAX }.write(), |bytes| {
            End::read(bytes).map(|end| end.write())
        }),
        layout("credit", u64::MAX.to_le_bytes().to_vec(), |bytes| {
            read_credit(bytes).map(|credit| credit.to_le_bytes().to_vec())
        }),
        layout("stream", stream(), stream_again),
        layout("bitmap", write_runs(16384, 4, 1 << 40, 99, &runs), bitmap_again),
    ]
}

#[test]
fn reading_and_writing_again_changes_nothing() {
    for layout in all() {
        assert_eq!((layout.again)(&layout.sample).unwrap(), layout.sample, "{}", layout.name);
    }
}

#[test]
fn every_prefix_and_one_more_byte_are_refused() {
    for layout in all() {
        for n in 0..layout.sample.len() {
            assert!((layout.again)(&layout.sample[..n]).is_err(), "{} cut at {n}", layout.name);
        }
        for extra in [0, 0xff] {
            let longer = [layout.sample.clone(), vec![extra]].concat();
            assert!((layout.again)(&longer).is_err(), "{} and {extra}", layout.name);
        }
    }
}

#[test]
fn a_changed_bit_of_a_stream_is_noticed() {
    let sample = stream();
    for index in 0..sample.len() * 8 {
        let mut changed = sample.clone();
        changed[index / 8] ^= 1 << (index % 8);
        assert!(stream_again(&changed).is_err(), "bit {index}");
    }
}
