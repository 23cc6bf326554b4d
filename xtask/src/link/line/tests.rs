//! Every kind of fault by itself, on packets and times that are made up.

use super::*;
use crate::link::Burst;

const MTU: usize = 1_500;
/// Long enough for everything on the way to arrive.
const LATER: Duration = Duration::from_secs(1_000);

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A line on which nothing happens.
fn calm() -> Conditions {
    Conditions { queue: LATER, seed: 7, ..Conditions::default() }
}

fn packet(number: u32) -> Vec<u8> {
    let mut packet = vec![0; MTU];
    packet[..4].copy_from_slice(&number.to_be_bytes());
    packet
}

fn number(packet: &[u8]) -> u32 {
    u32::from_be_bytes(packet[..4].try_into().unwrap())
}

/// Sends so many packets, one each millisecond; what arrived, with the times.
fn send(line: &mut Line, n_packets: u32) -> Vec<(Duration, u32)> {
    let mut arrived = Vec::new();
    for sent in 0..n_packets {
        let now = ms(u64::from(sent));
        line.put(now, &packet(sent));
        drain(line, now, &mut arrived);
    }
    drain(line, LATER, &mut arrived);
    arrived
}

/// Takes what arrives until then.
fn drain(line: &mut Line, until: Duration, arrived: &mut Vec<(Duration, u32)>) {
    while let Some(due) = line.next_due().filter(|due| *due <= until) {
        arrived.push((due, number(&line.take(until).unwrap())));
    }
}

/// Whether a share of many is what was asked for, within a tenth.
fn is_about(counted: usize, of: usize, share: f64) -> bool {
    (counted as f64 / of as f64 - share).abs() < share / 10.0
}

#[test]
fn a_calm_line_only_delays() {
    let mut line = Line::new(Way::Up, Conditions { delay: ms(50), ..calm() });
    let expected: Vec<_> = (0..100).map(|sent| (ms(u64::from(sent) + 50), sent)).collect();
    assert_eq!(send(&mut line, 100), expected);
    assert_eq!(line.counts(), Counts { offered: 100, bytes: 150_000, ..Counts::default() });
}

#[test]
fn packets_take_turns_at_the_rate() {
    // 12,000 bits at 12 Mbit/s are a millisecond.
    let conditions = Conditions { rate: 12_000_000, delay: ms(10), ..calm() };
    let mut line = Line::new(Way::Up, conditions);
    (0..5).for_each(|sent| line.put(ms(100), &packet(sent)));
    for sent in 0..5 {
        assert_eq!(line.next_due(), Some(ms(111 + sent)));
        assert!(line.take(ms(110 + sent)).is_none());
        assert!(line.take(ms(111 + sent)).is_some());
    }
}

#[test]
fn a_full_queue_drops_what_comes_last() {
    let conditions = Conditions { rate: 12_000_000, queue: ms(3), ..calm() };
    let mut line = Line::new(Way::Up, conditions);
    (0..10).for_each(|sent| line.put(ms(0), &packet(sent)));
    // One is on its turn, and three milliseconds of others wait.
    assert_eq!((line.counts().dropped, line.flying.len()), (6, 4));
    let arrived: Vec<_> = std::iter::from_fn(|| line.take(LATER)).map(|p| number(&p)).collect();
    assert_eq!(arrived, [0, 1, 2, 3]);
}

#[test]
fn jitter_stays_in_its_bounds_and_keeps_the_order() {
    let conditions = Conditions { delay: ms(200), jitter: ms(50), ..calm() };
    let arrived = send(&mut Line::new(Way::Up, conditions), 2_000);
    assert!(arrived.iter().map(|(_, sent)| *sent).eq(0..2_000));
    let delays: Vec<_> = arrived.iter().map(|(due, sent)| *due - ms(u64::from(*sent))).collect();
    assert!(delays.iter().all(|delay| (ms(150)..=ms(250)).contains(delay)));
    assert!(delays.iter().any(|delay| *delay < ms(175)) && delays.iter().any(|d| *d > ms(225)));
}

#[test]
fn lost_packets_are_of_the_share_that_was_asked_for() {
    let arrived = send(&mut Line::new(Way::Up, Conditions { loss: 0.05, ..calm() }), 50_000);
    assert!(is_about(50_000 - arrived.len(), 50_000, 0.05), "{}", arrived.len());
}

#[test]
fn bursts_have_their_share_and_their_length() {
    let burst = Burst { share: 0.05, length: 8.0 };
    let arrived = send(&mut Line::new(Way::Up, Conditions { burst, ..calm() }), 400_000);
    let lost = 400_000 - arrived.len();
    assert!(is_about(lost, 400_000, 0.05), "{lost}");
    let gaps = arrived.windows(2).filter(|pair| pair[1].1 - pair[0].1 > 1).count();
    assert!(is_about(lost, gaps, 8.0), "{lost} in {gaps}");
}

#[test]
fn some_packets_overtake_by_at_most_half_the_delay() {
    let conditions = Conditions { delay: ms(100), reorder: 0.25, ..calm() };
    let mut line = Line::new(Way::Up, conditions);
    let arrived = send(&mut line, 10_000);
    assert_eq!(arrived.len(), 10_000);
    assert!(is_about(line.counts().reordered as usize, 10_000, 0.25));
    assert!(arrived.windows(2).any(|pair| pair[0].1 > pair[1].1));
    let delays = arrived.iter().map(|(due, sent)| *due - ms(u64::from(*sent)));
    assert!(delays.into_iter().all(|delay| (ms(50)..=ms(100)).contains(&delay)));
}

#[test]
fn duplicates_arrive_twice_and_nothing_else_does() {
    let mut line = Line::new(Way::Up, Conditions { duplicate: 0.1, ..calm() });
    let arrived = send(&mut line, 10_000);
    let twice = arrived.windows(2).filter(|pair| pair[0].1 == pair[1].1).count();
    assert_eq!((twice, arrived.len()), (line.counts().duplicated as usize, 10_000 + twice));
    assert!(is_about(twice, 10_000, 0.1), "{twice}");
}

#[test]
fn a_corrupt_packet_differs_in_one_bit() {
    let mut line = Line::new(Way::Up, Conditions { corrupt: 0.1, ..calm() });
    let mut places = std::collections::BTreeSet::new();
    let mut n_flipped = 0;
    for sent in 0..10_000_u64 {
        line.put(ms(sent), &[0; MTU]);
        let arrived = line.take(ms(sent)).unwrap();
        let flipped: u32 = arrived.iter().map(|byte| byte.count_ones()).sum();
        assert!(flipped <= 1);
        n_flipped += flipped as usize;
        places.extend(arrived.iter().position(|byte| *byte != 0));
    }
    assert!(is_about(n_flipped, 10_000, 0.1) && places.len() > MTU / 4, "{n_flipped}");
    assert_eq!(line.counts().corrupted, n_flipped as u64);
}

#[test]
fn nothing_that_is_sent_in_a_cut_arrives() {
    let cuts = vec!["0.01-0.02:up".parse().unwrap()];
    let conditions = Conditions { delay: ms(5), cuts, ..calm() };
    let mut up = Line::new(Way::Up, conditions.clone());
    let arrived: Vec<_> = send(&mut up, 30).into_iter().map(|(_, sent)| sent).collect();
    assert_eq!(arrived, (0..10).chain(20..30).collect::<Vec<_>>());
    assert_eq!(up.counts().cut, 10);
    assert_eq!(send(&mut Line::new(Way::Down, conditions), 30).len(), 30);
}

#[test]
fn a_seed_decides_everything_and_each_direction_has_its_own_luck() {
    let foul = Conditions {
        delay: ms(20),
        jitter: ms(3),
        loss: 0.05,
        reorder: 0.1,
        duplicate: 0.05,
        burst: Burst { share: 0.02, length: 4.0 },
        ..calm()
    };
    let sent = |way, seed| send(&mut Line::new(way, Conditions { seed, ..foul.clone() }), 500);
    assert_eq!(sent(Way::Up, 1), sent(Way::Up, 1));
    assert_ne!(sent(Way::Up, 1), sent(Way::Up, 2));
    assert_ne!(sent(Way::Up, 1), sent(Way::Down, 1));
    assert_ne!(sent(Way::Down, 1), sent(Way::Up, 2));
}

#[test]
fn what_happens_to_a_packet_does_not_hang_on_what_else_is_switched_on() {
    let lossy = Conditions { loss: 0.1, ..calm() };
    let of = |conditions| {
        let arrived = send(&mut Line::new(Way::Up, conditions), 500);
        arrived.into_iter().map(|(_, sent)| sent).collect::<std::collections::BTreeSet<_>>()
    };
    let more = Conditions { delay: ms(9), jitter: ms(2), reorder: 0.3, ..lossy.clone() };
    assert_eq!(of(lossy), of(Conditions { duplicate: 0.2, corrupt: 0.0, ..more }));
}
