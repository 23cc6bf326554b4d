//! B-05 and the bombs of E-06 at the level of one group.

use offsite_model::Luck as _;

use super::*;

thread_local! {
    /// Compressed payloads that come out right before one does not; none for an encoder without a
    /// fault.
    static RIGHT_BEFORE: std::cell::Cell<Option<u32>> = const { std::cell::Cell::new(None) };
}

/// The encoder's fault, when its turn has come.
pub(super) fn strike(packed: &mut [u8]) {
    let n_right = RIGHT_BEFORE.get();
    RIGHT_BEFORE.set(n_right.and_then(|n| n.checked_sub(1)));
    if n_right == Some(0) {
        packed.iter_mut().for_each(|byte| *byte ^= 0x5a);
    }
}

fn record(seed: u8, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| seed.wrapping_mul(31).wrapping_add((i / 7) as u8)).collect()
}

fn sample() -> CheckedGroup {
    let records: Vec<Vec<u8>> = (0..5).map(|seed| record(seed, 3000 + usize::from(seed))).collect();
    let keyed: Vec<(Key, &[u8])> = records.iter().map(|r| (Key::of(r), &r[..])).collect();
    CheckedGroup::encode(Form::Plain, &keyed, 1).unwrap()
}

#[test]
fn a_group_is_compressed_where_it_helps_and_comes_back_whole() {
    let group = sample();
    assert_eq!(group.codec(), Codec::Zstd);
    let decoded = group.decoded().unwrap();
    for seed in 0..5 {
        assert_eq!(decoded.record(seed).unwrap(), record(seed, 3000 + usize::from(seed)));
    }
    assert_eq!(decoded.record(5), None);
    let noise: Vec<u8> = (0..400_u32).flat_map(|i| *Key::of(&i.to_le_bytes()).as_bytes()).collect();
    let raw = CheckedGroup::encode(Form::Plain, &[(Key::of(&noise), &noise)], 1).unwrap();
    assert_eq!(raw.codec(), Codec::None);
    assert_eq!(raw.decoded().unwrap().record(0).unwrap(), noise);
}

#[test]
fn b_05_any_flipped_bit_of_a_group_is_refused() {
    let good = sample();
    for place in 0..good.payload().len() {
        let mut payload = good.payload().to_vec();
        payload[place] ^= 1 << (place % 8);
        let checked =
            CheckedGroup::check(good.form(), good.codec(), good.table().to_vec(), &payload);
        // A frame has a few bits that change nothing in what it decodes to.
        if let Ok(group) = checked {
            let (a, b) = (group.decoded().unwrap(), good.decoded().unwrap());
            assert_eq!(a.raw, b.raw, "wrong bytes were accepted at {place}");
        }
    }
    for record_index in 0..5 {
        let mut table = good.table().to_vec();
        let mut key = *table[record_index].key.as_bytes();
        key[31] ^= 1;
        table[record_index].key = Key::from_bytes(key);
        let refused = CheckedGroup::check(good.form(), good.codec(), table, good.payload());
        assert_eq!(refused.unwrap_err(), GroupError::HashMismatch { record_index });
    }
}

#[test]
fn b_05_an_encoder_that_fails_in_one_of_a_thousand_groups_costs_space_and_no_group() {
    for faulty in [0, 400, 999] {
        RIGHT_BEFORE.set(Some(faulty));
        let mut n_raw = 0;
        for number in 0..1_000_u32 {
            let bytes = number.to_le_bytes().repeat(1_000);
            let made = CheckedGroup::encode(Form::Plain, &[(Key::of(&bytes), &bytes)], 1).unwrap();
            assert_eq!(made.decoded().unwrap().record(0).unwrap(), bytes);
            assert_eq!(made.codec() == Codec::None, number == faulty, "group {number}");
            n_raw += u32::from(made.codec() == Codec::None);
        }
        assert_eq!(n_raw, 1);
    }
}

#[test]
fn b_05_raw_groups_are_checked_like_compressed_ones() {
    let noise: Vec<u8> = (0..40_u32).flat_map(|i| *Key::of(&i.to_le_bytes()).as_bytes()).collect();
    for form in [Form::Plain, Form::Encrypted] {
        let table = vec![TableRow { key: Key::of(&noise), raw_bytes: noise.len() as u32 }];
        CheckedGroup::check(form, Codec::None, table.clone(), &noise).unwrap();
        let mut wrong = noise.clone();
        wrong[700] ^= 4;
        let refused = CheckedGroup::check(form, Codec::None, table, &wrong);
        assert_eq!(refused.unwrap_err(), GroupError::HashMismatch { record_index: 0 });
    }
}

#[test]
fn b_06_wrong_bytes_of_an_encrypted_record_are_refused() {
    // The key is that of the ciphertext, so the check needs no secret.
    let luck = offsite_testkit::SeededLuck::from_env_or(1);
    let mut ciphertext = vec![0; 4096];
    luck.fill(&mut ciphertext);
    let table = vec![TableRow { key: Key::of(&ciphertext), raw_bytes: 4096 }];
    let check = |payload: Vec<u8>| {
        CheckedGroup::check(Form::Encrypted, Codec::None, table.clone(), &payload)
    };
    check(ciphertext.clone()).unwrap();
    for case in 0..300 {
        let mut wrong = ciphertext.clone();
        wrong[luck.below(4096) as usize] ^= 1 << luck.below(8);
        let refused = check(wrong).unwrap_err();
        assert_eq!(refused, GroupError::HashMismatch { record_index: 0 }, "case {case}");
    }
}

#[test]
fn lengths_that_contradict_each_other_are_refused_before_decoding() {
    let good = sample();
    let check = |table: Vec<TableRow>, payload: Vec<u8>| {
        CheckedGroup::check(Form::Plain, Codec::Zstd, table, &payload).unwrap_err()
    };
    let row = |raw_bytes| TableRow { key: Key::ZERO, raw_bytes };
    let payload = good.payload().to_vec();
    assert_eq!(check(vec![], payload.clone()), GroupError::Shape("number of records"));
    assert_eq!(check(vec![row(9); 257], payload.clone()), GroupError::Shape("number of records"));
    assert_eq!(check(vec![row(0)], payload.clone()), GroupError::Shape("length of a record"));
    assert_eq!(
        check(vec![row(u32::MAX)], payload.clone()),
        GroupError::Shape("length of a record")
    );
    assert_eq!(check(vec![row(1 << 20); 2], payload.clone()), GroupError::Shape("too many bytes"));
    assert_eq!(check(vec![row(9)], payload.clone()), GroupError::Shape("stored length"));
    assert_eq!(check(vec![row(9)], vec![]), GroupError::Shape("stored length"));
    let encrypted =
        CheckedGroup::check(Form::Encrypted, Codec::Zstd, good.table().to_vec(), good.payload());
    assert_eq!(encrypted.unwrap_err(), GroupError::Shape("compressed after encryption"));
}

#[test]
fn e_06_bombs_and_second_frames_are_refused_at_the_announced_length() {
    let zeros = vec![0; 64 << 20];
    let bomb = zstd::bulk::compress(&zeros, 1).unwrap();
    let table = vec![TableRow { key: Key::ZERO, raw_bytes: 1 << 20 }];
    let refused = CheckedGroup::check(Form::Plain, Codec::Zstd, table, &bomb);
    assert_eq!(refused.unwrap_err(), GroupError::Undecodable);

    let good = sample();
    let mut twice = good.payload().to_vec();
    twice.extend_from_slice(&zstd::bulk::compress(b"", 1).unwrap());
    let refused = CheckedGroup::check(Form::Plain, Codec::Zstd, good.table().to_vec(), &twice);
    assert_eq!(refused.unwrap_err(), GroupError::Undecodable);

    let mut longer = good.table().to_vec();
    longer[0].raw_bytes += 1;
    let refused = CheckedGroup::check(Form::Plain, Codec::Zstd, longer, good.payload());
    assert_eq!(refused.unwrap_err(), GroupError::Undecodable);
}

#[test]
fn e_06_a_frame_that_asks_for_a_large_window_is_refused() {
    let raw = record(1, 5000);
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 10 << 3];
    // One raw block that is the last: 21 bits of length, 2 of type, 1 of "last".
    let head = (raw.len() as u32) << 3 | 1;
    frame.extend_from_slice(&head.to_le_bytes()[..3]);
    frame.extend_from_slice(&raw);
    assert!(has_small_window(&frame));
    let check = |frame: &[u8]| {
        let mut found = vec![0; raw.len()];
        decompress(frame, &mut found).map(|()| found == raw)
    };
    assert_eq!(check(&frame), Ok(true));
    let mut large = frame.clone();
    large[5] = 21 << 3;
    assert_eq!(check(&large), Err(GroupError::Undecodable));
    frame[5] = (10 << 3) | 1;
    assert!(!has_small_window(&frame));
    frame[5] = 21 << 3;
    assert!(!has_small_window(&frame));
}
