//! Runs every cell of the table against its text, with objects that are the caller's own and
//! another's.

use std::collections::BTreeMap;

use offsite_model::RequestId;
use offsite_proto::{admin, rows};

use super::*;
use crate::principal::TenantScope;

const OWN: TenantId = TenantId::from_bytes([1; 16]);
const OTHER: TenantId = TenantId::from_bytes([2; 16]);
const ME: UserId = UserId::from_bytes([3; 16]);
const SOMEBODY: UserId = UserId::from_bytes([4; 16]);
const SOURCE: CoreId = CoreId::from_bytes([5; 16]);
const NEIGHBOUR: CoreId = CoreId::from_bytes([6; 16]);
const KEY: KeyThumbprint = [7; 32];

fn table() -> BTreeMap<String, Vec<String>> {
    include_str!("../../fixtures/authority.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut cells = line.split(" | ").map(str::to_owned);
            (cells.next().unwrap(), cells.collect())
        })
        .collect()
}

fn peer(restore_grant: bool) -> PairedPeer {
    PairedPeer::vouched_by_gate(SOURCE, OWN, KEY, restore_grant)
}

fn user(role: Role, tenants: TenantScope, restore_grant: bool) -> Principal {
    let name = "me".to_owned();
    Principal::User(Account { user: ME, name, role, tenants, restore_grant, minted_by: None })
}

/// The columns in order, with the restore grant or without.
fn principals(restore_grant: bool) -> [Principal; 9] {
    let own = || TenantScope::only(vec![OWN]);
    [
        Principal::Anon,
        Principal::Enrolling { thumbprint: KEY, request: RequestId::from_bytes([8; 16]) },
        Principal::Source(peer(restore_grant)),
        Principal::Expired(peer(restore_grant)),
        user(Role::Viewer, own(), restore_grant),
        user(Role::Operator, own(), restore_grant),
        user(Role::Officer, TenantScope::All, restore_grant),
        user(Role::Administrator, TenantScope::All, restore_grant),
        Principal::LocalRoot { uid: 0 },
    ]
}

/// What a word of the table demands, independent of how the code spells its grants: for objects
/// that are one's own (`mine`), another's (`theirs`), and none at all (`unnamed`).
struct Demand {
    unnamed: bool,
    mine: bool,
    theirs: bool,
    needs_grant: bool,
}

fn demand(word: &str) -> Demand {
    let (unnamed, mine, theirs, needs_grant) = match word {
        "–" => (false, false, false, false),
        "yes" | "all" | "soft" | "yes, logged" | "yes; widening needs co-sign" => {
            (true, true, true, false)
        }
        "own"
        | "own, again"
        | "own, soft"
        | "re-pair only"
        | "itself"
        | "state only"
        | "own source; tenant if granted"
        | "own tenants"
        | "own tenants, soft"
        | "scoped token"
        | "heads, own events"
        | "own (pending until accepted)"
        | "own tenant, approved agents" => (true, true, false, false),
        "own points, restore grant, logged" | "own tenants, restore grant, logged" => {
            (true, true, false, true)
        }
        other => panic!("{other} has a test of its own"),
    };
    Demand { unnamed, mine, theirs, needs_grant }
}

const SPECIAL: &[&str] = &[
    "if pairing is open",
    "with a client key, A-07",
    "throttled, A-19",
    "throttled",
    "initiate",
    "co-sign",
    "initiate, or co-sign another's",
    "own token",
];

fn granted(principal: &Principal, action: Action, object: Object) -> bool {
    permits(principal, action, &object).is_granted()
}

fn is_unbounded(principal: &Principal) -> bool {
    principal.tenants() == TenantScope::All
}

#[test]
fn every_cell_is_as_the_table_says() {
    let mine = [
        Object::Source { source: SOURCE, tenant: OWN },
        Object::Agent { source: SOURCE, tenant: OWN, approved: true },
    ];
    let theirs = [
        Object::Source { source: NEIGHBOUR, tenant: OTHER },
        Object::Agent { source: NEIGHBOUR, tenant: OTHER, approved: true },
        Object::Source { source: SOURCE, tenant: OTHER },
    ];
    let table = table();
    let mut n_cells = 0;
    for restore_grant in [true, false] {
        for action in ACTIONS {
            let words = &table[&format!("{action:?}")];
            assert_eq!(words.len(), 9, "{action:?}");
            for (principal, word) in principals(restore_grant).iter().zip(words) {
                n_cells += 1;
                if SPECIAL.contains(&word.as_str()) {
                    continue;
                }
                let cell = format!("{action:?} by {principal}, {word:?}, grant {restore_grant}");
                let demand = demand(word);
                let open = !demand.needs_grant || restore_grant;
                let is = |object| granted(principal, *action, object);
                assert_eq!(is(Object::Unnamed), demand.unnamed && open, "{cell}");
                // Who is nobody, or only enrolling, has no source at all: everything named is
                // another's.
                let has_source =
                    !matches!(principal, Principal::Anon | Principal::Enrolling { .. });
                for object in mine {
                    assert_eq!(is(object), demand.mine && open && has_source, "{cell}: {object:?}");
                }
                for object in theirs {
                    // "Yes" of a caller bound to tenants still stops at their border (G-11).
                    let expected = demand.theirs && open && is_unbounded(principal);
                    assert_eq!(is(object), expected, "{cell}: {object:?}");
                    if !expected && demand.mine && open {
                        let verdict = permits(principal, *action, &object);
                        assert_eq!(verdict, Verdict::Refused(Why::NotThere), "{cell}");
                    }
                }
            }
        }
    }
    assert_eq!(n_cells, 2 * 9 * ACTIONS.len());
    assert_eq!(table.len(), ACTIONS.len());
}

#[test]
fn the_door_is_for_strangers_while_it_is_open() {
    let [anon, enrolling, source, ..] = principals(false);
    let door = |open, client_key| Object::Door { open, client_key };
    for key in [true, false] {
        assert!(granted(&anon, Action::Greet, door(true, key)));
        assert_eq!(
            permits(&anon, Action::Greet, &door(false, key)),
            Verdict::Refused(Why::NotThere)
        );
        assert!(granted(&source, Action::Greet, door(false, key)));
        for caller in [&anon, &enrolling] {
            assert!(granted(caller, Action::Demand, door(true, key)));
            assert!(!granted(caller, Action::Demand, door(false, key)));
        }
        assert!(!granted(&anon, Action::SubmitRequest, door(false, key)));
    }
    assert!(granted(&anon, Action::SubmitRequest, door(true, true)));
    assert!(!granted(&anon, Action::SubmitRequest, door(true, false)));
}

#[test]
fn four_eyes_are_two_persons() {
    let [.., operator, officer, administrator, local] = principals(false);
    let begun_by = |initiator| Object::Pending { initiator };
    let (mine, others) = (begun_by(Person::User(ME)), begun_by(Person::User(SOMEBODY)));
    let by_root = begun_by(Person::LocalRoot);
    let is = |principal, object| granted(principal, Action::FourEyes, object);
    // Beginning: the object is what the action is about.
    let about = Object::Tenant(OWN);
    assert!(is(&operator, about) && is(&administrator, about) && is(&local, about));
    assert!(!is(&officer, about) && !is(&officer, Object::Target));
    assert!(!is(&operator, Object::Tenant(OTHER)));
    // Co-signing: another's only.
    assert!(!is(&operator, others) && !is(&local, others) && !is(&local, by_root));
    assert!(is(&officer, others) && is(&officer, by_root) && !is(&officer, mine));
    assert!(is(&administrator, others) && is(&administrator, by_root));
    assert!(!is(&administrator, mine));
    // Whoever made the officer's token could be the officer.
    let Principal::User(account) = &officer else { panic!() };
    let minted_by = Some(Person::User(SOMEBODY));
    let minted = Principal::User(Account { minted_by, ..account.clone() });
    assert!(!granted(&minted, Action::FourEyes, others));
    assert!(granted(&minted, Action::FourEyes, by_root));
}

#[test]
fn a_token_is_ones_own() {
    let [.., operator, officer, administrator, local] = principals(false);
    for caller in [&operator, &officer] {
        assert!(granted(caller, Action::OwnToken, Object::Account(ME)));
        assert!(!granted(caller, Action::OwnToken, Object::Account(SOMEBODY)));
    }
    for caller in [&administrator, &local] {
        assert!(granted(caller, Action::OwnToken, Object::Account(SOMEBODY)));
    }
}

#[test]
fn only_approved_agents_replicate() {
    let [_, _, source, ..] = principals(false);
    let agent = |approved| Object::Agent { source: SOURCE, tenant: OWN, approved };
    assert!(granted(&source, Action::Replicate, agent(true)));
    assert_eq!(permits(&source, Action::Replicate, &agent(false)), Verdict::Refused(Why::NotThere));
}

#[test]
fn requests_are_seen_by_their_maker_and_by_who_they_are_assigned_to() {
    let request = |thumbprint, tenant| Object::Request { thumbprint, tenant };
    let [_, enrolling, source, _, _, operator, .., local] = principals(false);
    for caller in [&enrolling, &source] {
        assert!(granted(caller, Action::PollRequest, request(KEY, None)));
        assert!(!granted(caller, Action::PollRequest, request([9; 32], None)));
    }
    // A bound operator sees what is assigned to his tenants, not the rest; an unbounded one sees
    // all.
    assert!(granted(&operator, Action::DecideRequest, request([9; 32], Some(OWN))));
    assert!(!granted(&operator, Action::DecideRequest, request([9; 32], Some(OTHER))));
    assert!(!granted(&operator, Action::DecideRequest, request([9; 32], None)));
    let unbounded = user(Role::Operator, TenantScope::All, false);
    assert!(granted(&unbounded, Action::DecideRequest, request([9; 32], None)));
    assert!(granted(&local, Action::DecideRequest, request([9; 32], None)));
}

#[test]
fn every_row_has_its_action_in_the_table() {
    for row in rows::ALL.iter().chain(admin::target::ROWS) {
        assert!(ACTIONS.contains(&row.action), "{} {}", row.method, row.path);
    }
}

#[test]
fn scopes_intersect() {
    let scope = |tenants: &[TenantId]| TenantScope::only(tenants.to_vec());
    assert_eq!(TenantScope::All.intersection(&scope(&[OWN])), scope(&[OWN]));
    assert_eq!(scope(&[OWN]).intersection(&scope(&[OWN, OTHER])), scope(&[OWN]));
    assert_eq!(scope(&[OWN]).intersection(&scope(&[OTHER])), scope(&[]));
    assert!(!scope(&[]).reaches(OWN) && !scope(&[OWN]).reaches_optional(None));
}
