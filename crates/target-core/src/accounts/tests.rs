//! G-05, G-06, G-07 over accounts, tokens and logins.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use offsite_daemon::Secret;
use offsite_model::{Clock, Luck, Span, Timestamp};
use offsite_proto::error::ErrorCode;
use offsite_store::catalog::{Catalog, MemoryCatalog, Order, Table, Transactions, TypedRows};
use offsite_testkit::SeededLuck;

use super::login::Logins;
use super::tokens::{self, Wanted};
use super::users::{self, Rights, UserRow};
use super::{Network, code, enrolment, passwords};
use crate::deed::Deed;
use crate::failure::Failure;
use crate::principal::{Principal, Role, TenantScope};
use crate::{approvals, audit, storage_list, tenants};

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
const HERE: Network = Network::V4([192, 0, 2, 1]);

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        NOW
    }

    fn uptime(&self) -> Span {
        Span::ZERO
    }
}

struct Scene {
    catalog: Arc<MemoryCatalog>,
    luck: Arc<SeededLuck>,
    logins: Arc<Logins>,
}

fn scene() -> Scene {
    let catalog = Arc::new(MemoryCatalog::new());
    let luck = Arc::new(SeededLuck::from_env_or(5));
    let logins = Logins::new(
        Arc::clone(&catalog) as Arc<dyn Catalog>,
        Arc::new(Still),
        Arc::clone(&luck) as Arc<dyn Luck>,
    );
    Scene { catalog, luck, logins: Arc::new(logins) }
}

impl Scene {
    fn write<T>(
        &self,
        change: impl FnOnce(&mut dyn offsite_store::catalog::RowsMut, &Deed<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let by = Principal::LocalRoot { uid: 0 };
        let deed = Deed { by: &by, at: NOW, luck: &*self.luck };
        self.catalog.write(|rows| change(rows, &deed))
    }

    async fn add(&self, name: &str, role: Role, password: &str) -> UserRow {
        let hash = self.logins.passwords.hash(secret(password), &*self.luck).await.unwrap();
        let rights = Rights { role, tenants: TenantScope::All, restore_grant: false };
        self.write(|rows, deed| users::add(rows, deed, name, &rights, Some(hash))).unwrap()
    }

    async fn login(&self, name: &str, password: &str) -> Result<Secret<String>, ErrorCode> {
        let opened = self.logins.login(name, secret(password), HERE).await;
        opened.map(|(_, _, text)| text).map_err(|refusal| refusal.code)
    }

    fn check(&self, text: &str, at: Timestamp) -> bool {
        self.catalog.read::<_, Failure>(|rows| tokens::check(rows, text, at)).unwrap().is_some()
    }

    /// Every key and value of every table of ours, as one.
    fn dump(&self) -> Vec<u8> {
        const TABLES: &[Table] = &[
            users::USERS,
            users::USER_NAMES,
            tokens::TOKENS,
            enrolment::CODES,
            tenants::TENANTS,
            tenants::TENANT_NAMES,
            storage_list::STORAGES,
            approvals::APPROVALS,
            audit::ENTRIES,
            audit::HEAD,
        ];
        let mut dump = Vec::new();
        self.catalog
            .read::<_, Failure>(|rows| {
                for table in TABLES {
                    for (key, value) in
                        rows.scan_prefix(*table, b"", None, Order::Ascending, 10_000)?
                    {
                        dump.extend(key);
                        dump.extend(value);
                    }
                }
                Ok(())
            })
            .unwrap();
        dump
    }
}

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[tokio::test]
async fn g_05_a_dump_of_the_catalog_holds_no_usable_secret() {
    let scene = scene();
    let user = scene.add("anna", Role::Administrator, "canary-password-7").await;
    let mut texts = vec!["canary-password-7".to_owned()];
    for _ in 0..20 {
        let wanted = Wanted::days(None).unwrap();
        let (_, text) =
            scene.write(|rows, deed| tokens::issue(rows, deed, &user, &wanted)).unwrap();
        texts.push(text.expose().clone());
    }
    texts.push(scene.login("anna", "canary-password-7").await.unwrap().expose().clone());
    let tenant = scene.write(|rows, deed| tenants::add(rows, deed, "tenant")).unwrap();
    let (_, text) =
        scene.write(|rows, deed| enrolment::add(rows, deed, tenant.id, None, "")).unwrap();
    let code_text = text.expose().replace('-', "");
    texts.push(text.expose().clone());
    let dump = scene.dump();
    for text in &texts {
        assert!(!holds(&dump, text.as_bytes()));
        // Neither the text nor the bits it stands for, nor any part of either that would do.
        if let Some(rest) = text.strip_prefix("offsite_") {
            let letters = &rest[26..78];
            let bits: [u8; 32] = code::bytes(letters).unwrap();
            assert!(!holds(&dump, letters.as_bytes()) && !holds(&dump, &bits[..16]));
            assert!(!holds(&dump, &bits[16..]));
            // What is there opens nothing: its hash under the same id is another token.
            let forged = format!("offsite_{}{}", &rest[..26], code::letters(&code::sha256(&bits)));
            let forged = format!("{forged}{}", code::checksum(&forged));
            assert!(!scene.check(&forged, NOW));
        }
    }
    let bits: [u8; 16] = code::bytes(&code_text[..26]).unwrap();
    assert!(!holds(&dump, &bits));
}

#[tokio::test]
async fn g_05_tokens_are_good_until_they_are_not() {
    let scene = scene();
    let user = scene.add("anna", Role::Operator, "long enough").await;
    let wanted = Wanted::days(Some(10)).unwrap();
    let (token, text) =
        scene.write(|rows, deed| tokens::issue(rows, deed, &user, &wanted)).unwrap();
    let text = text.expose().clone();
    assert_eq!(text.len(), "offsite_".len() + 26 + 52 + 6);
    assert!(scene.check(&text, NOW));
    assert!(!scene.check(&text, NOW + Span::from_days(10)));
    for index in 0..text.len() {
        let mut changed = text.clone().into_bytes();
        changed[index] = if changed[index] == b'0' { b'1' } else { b'0' };
        assert!(!scene.check(&String::from_utf8(changed).unwrap(), NOW), "letter {index}");
        assert!(!scene.check(&text[..index], NOW), "cut at {index}");
    }
    // Another's secret under this id, its checksum right.
    let (_, other) = scene.write(|rows, deed| tokens::issue(rows, deed, &user, &wanted)).unwrap();
    let mixed = format!("{}{}", &text[..34], &other.expose()[34..86]);
    let mixed = format!("{mixed}{}", code::checksum(&mixed));
    assert!(!scene.check(&mixed, NOW));
    scene.write(|rows, deed| tokens::revoke(rows, deed, token.id)).unwrap();
    assert!(!scene.check(&text, NOW));
    assert!(scene.check(other.expose(), NOW));
    scene.add("root", Role::Administrator, "long enough").await;
    scene.write(|rows, deed| users::remove(rows, deed, "anna")).unwrap();
    assert!(!scene.check(other.expose(), NOW));
    for days in [0, tokens::DAYS_MAX + 1] {
        assert!(Wanted::days(Some(days)).is_err());
    }
}

#[tokio::test]
async fn a_token_is_never_wider_than_its_owner() {
    let scene = scene();
    let user = scene.add("anna", Role::Viewer, "long enough").await;
    let wide = Wanted { role: Some(Role::Administrator), ..Wanted::session() };
    assert!(scene.write(|rows, deed| tokens::issue(rows, deed, &user, &wide)).is_err());
    let boss = scene.add("boss", Role::Administrator, "long enough").await;
    let narrow = Wanted { role: Some(Role::Viewer), ..Wanted::session() };
    let (_, text) = scene.write(|rows, deed| tokens::issue(rows, deed, &boss, &narrow)).unwrap();
    let Principal::User(account) = scene.logins.recognise(text.expose()).unwrap() else { panic!() };
    assert_eq!((account.role, account.name.as_str()), (Role::Viewer, "boss"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn g_06_parallel_logins_hash_two_at_once() {
    let scene = Arc::new(scene());
    // One account each, so that the throttle is not what is measured.
    let hash = scene.logins.passwords.hash(secret("correct horse"), &*scene.luck).await.unwrap();
    for number in 0..50 {
        let rights = Rights { role: Role::Viewer, tenants: TenantScope::All, restore_grant: false };
        let hash = Some(hash.clone());
        scene
            .write(|rows, deed| users::add(rows, deed, &format!("user {number}"), &rights, hash))
            .unwrap();
    }
    let logins: Vec<_> = (0..50)
        .map(|number| {
            let scene = Arc::clone(&scene);
            tokio::spawn(
                async move { scene.login(&format!("user {number}"), "correct horse").await },
            )
        })
        .collect();
    for login in logins {
        assert!(login.await.unwrap().is_ok());
    }
    let observed = &scene.logins.passwords.observed;
    assert_eq!(observed.hashed.load(SeqCst), 51);
    let most = observed.most_at_once.load(SeqCst);
    assert!(most <= passwords::AT_ONCE, "{most} hashes at once");
    // Memory follows from that: each hash holds its blocks and nothing else of size.
    assert!(most * ((passwords::MEMORY_KIB as usize) << 10) <= 64 << 20);
    const { assert!(passwords::MEMORY_KIB >= 19 << 10 && passwords::PASSES >= 2) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn g_06_failures_are_throttled_before_hashing() {
    let scene = Arc::new(scene());
    scene.add("anna", Role::Viewer, "correct horse").await;
    let hashed = || scene.logins.passwords.observed.hashed.load(SeqCst);
    let before = hashed();
    let tries: Vec<_> = (0..50)
        .map(|_| {
            let scene = Arc::clone(&scene);
            tokio::spawn(async move { scene.login("Anna", "wrong horse").await })
        })
        .collect();
    for tried in tries {
        assert_eq!(tried.await.unwrap().err(), Some(ErrorCode::Unauthenticated));
    }
    assert_eq!(hashed() - before, 5, "guesses judged");
    // The right one is not judged either, from here; from elsewhere it is.
    assert!(scene.login("anna", "correct horse").await.is_err());
    assert_eq!(hashed() - before, 5);
    let elsewhere = Network::V4([192, 0, 2, 2]);
    assert!(scene.logins.login("anna", secret("correct horse"), elsewhere).await.is_ok());
}

#[tokio::test]
async fn one_text_and_one_cost_for_every_reason() {
    let scene = scene();
    scene.add("anna", Role::Viewer, "correct horse").await;
    let rights = Rights { role: Role::Viewer, tenants: TenantScope::All, restore_grant: false };
    scene.write(|rows, deed| users::add(rows, deed, "tokens only", &rights, None)).unwrap();
    let observed = &scene.logins.passwords.observed;
    let mut answers = Vec::new();
    for name in ["anna", "nobody", "tokens only"] {
        let before = observed.hashed.load(SeqCst);
        let refusal = scene.logins.login(name, secret("wrong horse"), HERE).await;
        answers.push(refusal.err().unwrap());
        assert_eq!(observed.hashed.load(SeqCst) - before, 1, "{name}");
    }
    for _ in 0..10 {
        answers.push(scene.logins.login("anna", secret("wrong"), HERE).await.err().unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

#[tokio::test]
async fn the_last_administrator_stays() {
    let scene = scene();
    scene.add("anna", Role::Administrator, "long enough").await;
    assert!(scene.write(|rows, deed| users::remove(rows, deed, "anna")).is_err());
    scene.add("berta", Role::Administrator, "long enough").await;
    scene.write(|rows, deed| users::remove(rows, deed, "anna")).unwrap();
    assert!(scene.write(|rows, deed| users::remove(rows, deed, "berta")).is_err());
    assert!(scene.write(|rows, deed| users::remove(rows, deed, "anna")).is_err());
}

#[test]
fn an_enrolment_code_is_good_for_one_key_of_one_tenant() {
    let scene = scene();
    let tenant = scene.write(|rows, deed| tenants::add(rows, deed, "tenant")).unwrap();
    let add = |days| {
        let made =
            scene.write(|rows, deed| enrolment::add(rows, deed, tenant.id, Some(days), "post"));
        made.unwrap().1.expose().clone()
    };
    let redeem = |typed: &str, key: u8, at: Timestamp| {
        let deed = Deed { by: &Principal::Anon, at, luck: &*scene.luck };
        scene
            .catalog
            .write::<_, Failure>(|rows| enrolment::redeem(rows, &deed, typed, &[key; 32]))
            .unwrap()
    };
    let code = add(1);
    assert_eq!(code.len(), 32 + 7, "{code}");
    let mistyped = format!("{}{}", if code.starts_with('0') { '1' } else { '0' }, &code[1..]);
    assert_eq!(redeem(&mistyped, 1, NOW), None);
    assert_eq!(redeem(&"x".repeat(100_000), 1, NOW), None);
    let shouted = code.to_uppercase().replace('-', " ");
    assert_eq!(redeem(&shouted, 1, NOW), Some(tenant.id));
    assert_eq!(redeem(&code, 1, NOW), Some(tenant.id), "the same key submits again");
    assert_eq!(redeem(&code, 2, NOW), None);
    let lapsed = add(1);
    assert_eq!(redeem(&lapsed, 1, NOW + Span::from_days(1)), None);
}

#[test]
fn c_03_a_lock_is_only_lengthened() {
    let scene = scene();
    let tenant = scene.write(|rows, deed| tenants::add(rows, deed, "tenant")).unwrap();
    let set = |days| {
        let set = scene.write(|rows, deed| tenants::set(rows, deed, tenant.id, None, Some(days)));
        set.map(|row| row.lock_days).map_err(|failure| match failure {
            Failure::Refused(refusal) => refusal.code,
            Failure::Catalog(error) => panic!("{error}"),
        })
    };
    assert_eq!(set(30), Ok(30));
    assert_eq!(set(29), Err(ErrorCode::RetentionLocked));
    assert_eq!(set(0), Err(ErrorCode::RetentionLocked));
    assert_eq!(set(30), Ok(30));
    assert_eq!(set(401), Err(ErrorCode::BadRequest));
    assert_eq!(set(400), Ok(400));
}

#[test]
fn tenants_of_sources_get_names_of_their_own() {
    let scene = scene();
    let named = |name: &str| {
        scene.write(|rows, deed| tenants::add_for_source(rows, deed, name)).unwrap().name
    };
    assert_eq!(named("host"), "host");
    assert_eq!(named("HOST"), "HOST (2)");
    assert_eq!(named("\u{1b}]0;x\u{7}"), "0-x-");
}
