//! The pools, without sockets.

use super::*;

fn policy() -> ConnectionPolicy {
    ConnectionPolicy {
        unknown_per_address: 2,
        unknown_total: 4,
        paired_total: 3,
        paired_per_key: 2,
        handshakes_per_sec: 1_000,
        handshakes_at_once: 2,
        ..ConnectionPolicy::default()
    }
}

fn address(last: u8) -> Option<IpAddr> {
    Some(IpAddr::from([127, 0, 0, last]))
}

fn key(byte: u8) -> Thumbprint {
    Thumbprint::from_bytes([byte; 32])
}

fn settle(ticket: &Ticket, key: Thumbprint) -> Result<(), Full> {
    ticket.identified(Some(key));
    ticket.settle(ConnectionClass::Paired)
}

fn cut(tickets: &[&Ticket]) -> Vec<bool> {
    tickets.iter().map(|ticket| ticket.cut.is_cancelled()).collect()
}

#[tokio::test]
async fn e_01_the_oldest_stranger_of_a_full_address_gives_way() {
    let connections = Connections::new(policy());
    let first = connections.admit(address(1)).unwrap();
    let other = connections.admit(address(2)).unwrap();
    let paired = connections.admit(address(1)).unwrap();
    settle(&paired, key(1)).unwrap();
    let second = connections.admit(address(1)).unwrap();
    assert_eq!(cut(&[&first, &other, &paired, &second]), [false; 4]);
    let third = connections.admit(address(1)).unwrap();
    assert_eq!(
        cut(&[&first, &other, &paired, &second, &third]),
        [true, false, false, false, false]
    );
}

#[tokio::test]
async fn e_01_the_oldest_stranger_of_all_gives_way_and_no_paired_source() {
    let connections = Connections::new(policy());
    let paired = connections.admit(address(9)).unwrap();
    settle(&paired, key(1)).unwrap();
    let approved = connections.admit(address(8)).unwrap();
    approved.pulse.approve();
    let tickets: Vec<_> = (1..=4).map(|last| connections.admit(address(last)).unwrap()).collect();
    assert!(tickets.iter().all(|ticket| !ticket.cut.is_cancelled()));
    let _fifth = connections.admit(address(5)).unwrap();
    assert!(tickets[0].cut.is_cancelled());
    assert!(tickets[1..].iter().all(|ticket| !ticket.cut.is_cancelled()));
    assert_eq!(cut(&[&paired, &approved]), [false; 2]);
}

#[tokio::test]
async fn every_source_keeps_its_first_connection() {
    let connections = Connections::new(policy());
    let arrive = |last: u8, byte: u8| {
        let ticket = connections.admit(address(last)).unwrap();
        settle(&ticket, key(byte)).map(|()| ticket)
    };
    let one = arrive(1, 1).unwrap();
    let one_more = arrive(2, 1).unwrap();
    assert_eq!(arrive(3, 1).unwrap_err(), Full::Key);
    let two = arrive(3, 2).unwrap();
    // Full: a source with none gets the newest of the source with the most.
    let three = arrive(4, 3).unwrap();
    assert_eq!(cut(&[&one, &one_more, &two, &three]), [false, true, false, false]);
    drop(one_more);
    assert_eq!(arrive(4, 2).unwrap_err(), Full::Paired);
    assert_eq!(arrive(4, 4).unwrap_err(), Full::Paired);
}

#[tokio::test]
async fn a_15_a_key_loses_all_its_connections_at_once() {
    let connections = Connections::new(policy());
    let one = connections.admit(address(1)).unwrap();
    settle(&one, key(1)).unwrap();
    let two = connections.admit(address(2)).unwrap();
    settle(&two, key(1)).unwrap();
    let other = connections.admit(address(3)).unwrap();
    settle(&other, key(2)).unwrap();
    assert_eq!(connections.close(&key(1)), 2);
    assert_eq!(cut(&[&one, &two, &other]), [true, true, false]);
}

#[tokio::test]
async fn e_19_a_handshake_that_waits_gives_way_to_the_next() {
    let connections = Connections::new(policy());
    let tickets: Vec<_> = (1..=3).map(|last| connections.admit(address(last)).unwrap()).collect();
    tickets.iter().for_each(Ticket::handshake_begun);
    assert_eq!(cut(&tickets.iter().collect::<Vec<_>>()), [true, false, false]);
}

#[tokio::test(start_paused = true)]
async fn e_19_an_address_has_a_budget_of_handshakes() {
    let policy = ConnectionPolicy { handshakes_per_sec: 5, ..policy() };
    let connections = Connections::new(policy);
    let n = |last| (0..50).filter(|_| connections.admit(address(last)).is_ok()).count();
    assert_eq!((n(1), n(1), n(2)), (10, 0, 10));
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    assert_eq!(n(1), 5);
}

#[test]
fn addresses_are_counted_by_32_and_56() {
    let group = |text: &str| group_of(text.parse().unwrap()).to_string();
    assert_eq!(group("192.0.2.7"), "192.0.2.7");
    assert_eq!(group("::ffff:192.0.2.7"), "192.0.2.7");
    assert_eq!(group("2001:db8:1:2ff:3:4:5:6"), "2001:db8:1:200::");
}
