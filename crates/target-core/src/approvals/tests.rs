//! C-06: same person twice, expired, replayed, changed in between; all actions.

use offsite_store::catalog::{MemoryCatalog, Transactions};
use offsite_testkit::SeededLuck;

use super::*;
use crate::audit;
use crate::principal::{Account, TenantScope};
use crate::retention::clock::{CREDIT_MAX, Reading, RetentionClock};
use crate::retention::time::{CLOCK, CLOCK_KEY};

/// A register with one source that can be adopted, whose facts can be changed.
struct Sources {
    key: std::cell::Cell<u8>,
    left: Vec<String>,
}

impl Register for Sources {
    fn describe_adoption(&self, _: &dyn RowsMut, _: CoreId, _: RequestId) -> Result<Seen, Failure> {
        Ok(vec![("new_key".to_owned(), self.key.get().to_string())])
    }

    fn sources_of(&self, _: &dyn RowsMut, _: TenantId) -> Result<Vec<String>, Failure> {
        Ok(self.left.clone())
    }
}

struct Scene {
    catalog: MemoryCatalog,
    luck: SeededLuck,
    sources: Sources,
    first: Principal,
    second: Principal,
    officer: Principal,
    /// Made by the first.
    puppet: Principal,
    acts: Vec<Act>,
}

const START: Timestamp = Timestamp::from_secs(1_000_000);

fn principal(user: &UserRow) -> Principal {
    Principal::User(Account {
        user: user.id,
        name: user.name.clone(),
        role: user.role,
        tenants: user.scope(),
        restore_grant: false,
        minted_by: None,
    })
}

fn scene() -> Scene {
    let (catalog, luck) = (MemoryCatalog::new(), SeededLuck::from_env_or(6));
    let rights = |role| Rights { role, tenants: TenantScope::All, restore_grant: false };
    let add = |by: &Principal, name: &str, role| {
        catalog
            .write::<_, Failure>(|rows| {
                let deed = Deed { by, at: START, luck: &luck };
                users::add(rows, &deed, name, &rights(role), None)
            })
            .unwrap()
    };
    let root = Principal::LocalRoot { uid: 0 };
    let first = principal(&add(&root, "first", Role::Administrator));
    let second = principal(&add(&root, "second", Role::Administrator));
    let officer = principal(&add(&root, "officer", Role::Officer));
    let puppet = principal(&add(&first, "puppet", Role::Officer));
    let viewer = add(&root, "viewer", Role::Viewer).id;
    let tenant = catalog
        .write::<_, Failure>(|rows| {
            tenants::add(rows, &Deed { by: &root, at: START, luck: &luck }, "left over")
        })
        .unwrap()
        .id;
    let acts = vec![
        Act::AdoptIdentity {
            source: CoreId::from_bytes([1; 16]),
            request: RequestId::from_bytes([2; 16]),
        },
        Act::WidenRole {
            user: viewer,
            role: Role::Administrator,
            tenants: None,
            restore_grant: false,
        },
        Act::DeleteTenant { tenant },
        Act::Purge { tenant, point: [7; 16] },
        Act::ShortenSoftDelete { days: 7 },
        Act::ShortenLock { tenant, before: 30, governance_days: 3 },
        Act::CreditClock { micros: 1_000_000 },
    ];
    owe(&catalog, Span::from_hours(1));
    let sources = Sources { key: 1.into(), left: Vec::new() };
    Scene { catalog, luck, sources, first, second, officer, puppet, acts }
}

/// Lets the retention clock be owed so much.
fn owe(catalog: &MemoryCatalog, span: Span) {
    let reading = |wall| Reading { wall, boot: Span::ZERO };
    let mut clock = RetentionClock::starting_at(START, reading(START));
    clock.resume(reading(START + CREDIT_MAX + span), None);
    assert_eq!(clock.owed(), span);
    catalog.write::<_, Failure>(|rows| Ok(rows.put_value(CLOCK, CLOCK_KEY, &clock)?)).unwrap();
}

impl Scene {
    fn ask(&self, by: &Principal, act: &Act) -> ApprovalRow {
        let deed = Deed { by, at: START, luck: &self.luck };
        self.catalog
            .write::<_, Failure>(|rows| ask(rows, &deed, &self.sources, act.clone()))
            .unwrap()
    }

    fn agree(
        &self,
        by: &Principal,
        approval: &ApprovalRow,
        after: Span,
    ) -> Result<ApprovalRow, ErrorCode> {
        let deed = Deed { by, at: START + after, luck: &self.luck };
        self.catalog
            .write::<_, Failure>(|rows| {
                let (id, digest) = (approval.id, approval.digest);
                answer(rows, &deed, &self.sources, id, digest, Answer::Agree)
            })
            .map_err(|failure| match failure {
                Failure::Refused(refusal) => refusal.code,
                Failure::Catalog(error) => panic!("{error}"),
            })
    }

    /// Everything but approvals and audit: whether anything happened.
    fn rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.catalog
            .read::<_, Failure>(|rows| {
                let mut all = rows.scan_prefix(users::USERS, b"", None, Order::Ascending, 99)?;
                all.extend(rows.scan_prefix(tenants::TENANTS, b"", None, Order::Ascending, 99)?);
                all.extend(rows.scan_prefix(rules::RULES, b"", None, Order::Ascending, 99)?);
                Ok(all)
            })
            .unwrap()
    }
}

#[test]
fn c_06_one_person_is_never_two() {
    let n_acts = scene().acts.len();
    for index in 0..n_acts {
        let scene = scene();
        let act = scene.acts[index].clone();
        let before = scene.rows();
        let local = Principal::LocalRoot { uid: 0 };
        let approval = scene.ask(&scene.first, &act);
        let minted = match &scene.officer {
            Principal::User(account) => {
                Principal::User(Account { minted_by: scene.first.person(), ..account.clone() })
            }
            _ => unreachable!(),
        };
        for by in [&scene.first, &scene.puppet, &minted, &local, &Principal::Anon] {
            assert_eq!(scene.agree(by, &approval, Span::ZERO), Err(ErrorCode::Forbidden), "{by}");
        }
        let by_root = scene.ask(&local, &act);
        let other_root = Principal::LocalRoot { uid: 7 };
        for by in [&local, &other_root] {
            assert_eq!(scene.agree(by, &by_root, Span::ZERO), Err(ErrorCode::Forbidden), "{by}");
        }
        assert_eq!(scene.rows(), before, "{}", act.word());
    }
}

#[test]
fn c_06_two_persons_do_it_once() {
    for index in 0..scene().acts.len() {
        for by_officer in [true, false] {
            let scene = scene();
            let act = scene.acts[index].clone();
            let before = scene.rows();
            let approval = scene.ask(&scene.first, &act);
            let second = if by_officer { &scene.officer } else { &scene.second };
            let done = scene.agree(second, &approval, Span::from_hours(23)).unwrap();
            assert_eq!(done.state.word(), "done");
            // What is the register's, the store's or the clock's is the caller's to do; `tests` has
            // it.
            let is_callers = matches!(
                act,
                Act::AdoptIdentity { .. }
                    | Act::Purge { .. }
                    | Act::ShortenLock { .. }
                    | Act::CreditClock { .. }
            );
            assert_eq!(scene.rows() == before, is_callers, "{}", act.word());
            let after = scene.rows();
            assert_eq!(
                scene.agree(second, &approval, Span::from_hours(23)),
                Err(ErrorCode::AlreadyResolved)
            );
            assert_eq!(scene.rows(), after);
            assert_eq!(audit::verify(&scene.catalog).unwrap().first_bad, None);
        }
    }
}

#[test]
fn c_06_consent_lapses_after_a_day() {
    for index in 0..scene().acts.len() {
        let scene = scene();
        let before = scene.rows();
        let approval = scene.ask(&scene.first, &scene.acts[index]);
        assert_eq!(scene.agree(&scene.second, &approval, WAITING), Err(ErrorCode::RequestExpired));
        assert_eq!(scene.rows(), before);
    }
}

#[test]
fn c_06_a_changed_action_needs_new_consent() {
    // The digest that the second person saw is of another action.
    for index in 0..scene().acts.len() {
        let scene = scene();
        let before = scene.rows();
        let mut approval = scene.ask(&scene.first, &scene.acts[index]);
        let other = scene.ask(&scene.first, &scene.acts[(index + 1) % scene.acts.len()]);
        approval.digest = other.digest;
        assert_eq!(
            scene.agree(&scene.second, &approval, Span::ZERO),
            Err(ErrorCode::RequestChanged)
        );
        assert_eq!(scene.rows(), before);
    }
    // The facts change between asking and agreeing.
    let scene = scene();
    let approval = scene.ask(&scene.first, &scene.acts[0]);
    scene.sources.key.set(2);
    assert_eq!(scene.agree(&scene.second, &approval, Span::ZERO), Err(ErrorCode::RequestChanged));
    let approval = scene.ask(&scene.first, &scene.acts[1]);
    let Act::WidenRole { user, .. } = scene.acts[1] else { panic!() };
    scene
        .catalog
        .write::<_, Failure>(|rows| {
            let deed = Deed { by: &scene.first, at: START, luck: &scene.luck };
            let tenants = TenantScope::only(vec![]);
            let rights = Rights { role: Role::Viewer, tenants, restore_grant: false };
            users::change(rows, &deed, user, &rights)
        })
        .unwrap();
    assert_eq!(scene.agree(&scene.second, &approval, Span::ZERO), Err(ErrorCode::RequestChanged));
}

#[test]
fn a_tenant_with_sources_is_not_deleted() {
    let mut scene = scene();
    let approval = scene.ask(&scene.first, &scene.acts[2]);
    scene.sources.left.push("a late source".to_owned());
    assert_eq!(scene.agree(&scene.second, &approval, Span::ZERO), Err(ErrorCode::WrongState));
}
