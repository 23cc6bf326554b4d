//! Each rule of each layout, broken alone: one place of a good sample is changed, and the refusal
//! names the rule.

use super::layouts::{self, Layout};

fn sample(name: &str) -> Layout {
    layouts::all().into_iter().find(|layout| layout.name == name).unwrap()
}

/// Puts `bytes` at `place` of the sample and expects a refusal that contains `said`.
#[track_caller]
fn refused(name: &str, changes: &[(usize, &[u8])], said: &str) {
    let Layout { mut sample, again, .. } = sample(name);
    for (place, bytes) in changes {
        sample[*place..place + bytes.len()].copy_from_slice(bytes);
    }
    match again(&sample) {
        Ok(_) => panic!("{name} with {changes:?} was accepted, though {said}"),
        Err(error) => assert!(error.to_string().contains(said), "{error} instead of {said}"),
    }
}

const fn le(number: u32) -> [u8; 4] {
    number.to_le_bytes()
}

const MAX: [u8; 8] = [0xff; 8];

#[test]
fn groups() {
    let (plain, zstd) = ("group_plain", "group_zstd");
    refused(plain, &[(0, &le(0))], "the number of records of a group is 0");
    refused(plain, &[(0, &le(257))], "the number of records of a group is 257");
    refused(plain, &[(4, &le(0))], "the raw length of a group is 0");
    refused(zstd, &[(4, &le((1 << 20) + 1))], "the raw length of a group is 1048577");
    refused(plain, &[(8, &le(0))], "the stored length of a group is 0");
    refused(zstd, &[(8, &le((1 << 14) + 1))], "the stored length of a group is 16385");
    refused(plain, &[(8, &le(5))], "the stored length and codec 0 disagree");
    refused(plain, &[(12, &[2])], "codec 2 is unknown");
    refused(plain, &[(12, &[1])], "the encrypted flag and the codec disagree");
    refused(plain, &[(13, &[3])], "flags of a group is 3");
    refused(plain, &[(14, &[1])], "a reserved field of a group is 1");
    refused(plain, &[(60, &[1])], "a reserved field of a record is 1");
    refused(plain, &[(56, &le(0))], "the raw length of a record is 0");
    refused(plain, &[(56, &le((1 << 20) + 1))], "the raw length of a record is 1048577");
    refused(plain, &[(56, &le(5))], "the raw length of a group and its table disagree");
    refused(plain, &[(64, &[5])], "the ordinal of a record is 5");
}

#[test]
fn windows() {
    refused("window", &[(4, &le(0))], "the number of keys of a window is 0");
    refused("window", &[(4, &le(8193))], "the number of keys of a window is 8193");
    refused("window", &[(8, &MAX)], "the first ordinal of a window");
    refused("window", &[(28, &[2])], "flags of a key is 2");
    refused("window", &[(28, &[1])], "the flag of zeros and the key disagree");
    refused("window", &[(24, &le(0))], "the length of a record is 0");
    refused("window", &[(24, &le((1 << 20) + 1))], "the length of a record is 1048577");
    refused("window", &[(72, &le(0))], "the length of a run of zeros is 0");
    refused("window", &[(72, &le((1 << 31) + 1))], "the length of a run of zeros is 2147483649");
    refused("window", &[(64, &[0xff, 0x3f])], "the offset of a key is 16383");
    refused("window", &[(112, &MAX)], "the offset of a key is 18446744073709551615");
    refused("wanted", &[(17, &[0x08])], "unused bits of an answer is 1");
    refused("wanted", &[(4, &le(8193))], "the number of keys of a window is 8193");
}

#[test]
fn streams() {
    refused("stream", &[(0, b"X")], "magic of a stream");
    refused("stream", &[(4, &[1])], "the kind of a stream is 1");
    for (version, said) in [
        (0, "a stream has version 0, this program knows 1"),
        (2, "a stream has version 2, this program knows 1"),
    ] {
        refused("stream", &[(5, &[version])], said);
    }
    refused("stream", &[(6, &[17])], "the length of a preamble is 17");
    refused("stream", &[(8, &[8])], "the session of a stream and its path disagree");
    refused("stream", &[(18, &[99, 0])], "opcode 99 is unknown");
    refused("stream", &[(20, &le((1 << 20) + (64 << 10) + 1))], "the length of a frame is 1114113");
    refused("stream", &[(24, &[1])], "the checksum of a frame does not match");
}

#[test]
fn bitmaps() {
    refused("bitmap", &[(0, b"X")], "magic of a bitmap");
    refused("bitmap", &[(4, &[0])], "a bitmap has version 0, this program knows 1");
    refused("bitmap", &[(4, &[9])], "a bitmap has version 9, this program knows 1");
    refused("bitmap", &[(5, &[3])], "encoding of a bitmap 3 is unknown");
    refused("bitmap", &[(6, &[1])], "a reserved field of a bitmap is 1");
    refused("bitmap", &[(8, &le(16385))], "the block size of a bitmap is 16385");
    refused("bitmap", &[(8, &le(256))], "the block size of a bitmap is 256");
    refused("bitmap", &[(32, &le((128 << 20) + 1))], "the length of a bitmap is 134217729");
    refused("bitmap", &[(36, &[0xaa])], "the checksum of a bitmap does not match");
}
