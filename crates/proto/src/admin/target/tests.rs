//! F-07 over every command body of the admin API: a corpus of wrong texts, each made from a right
//! one.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::json;
use crate::operator::{Decide, Login};
use crate::text::Big;

/// One command body: a right text with every field, and whether a text is read.
struct Command {
    name: &'static str,
    right: String,
    reads: fn(&str) -> bool,
}

fn command<T: Serialize + DeserializeOwned>(name: &'static str, sample: &T) -> Command {
    let right = serde_json::to_string(sample).unwrap();
    Command { name, right, reads: |text| json::from_slice::<T>(text.as_bytes()).is_ok() }
}

fn commands() -> Vec<Command> {
    let text = || Some("a".to_owned());
    vec![
        command(
            "accept",
            &Accept {
                digest: "00".into(),
                check_code: text(),
                without_code: false,
                tenant: text(),
                storage_id: Some(1),
                quota_bytes: Some(Big(7)),
                allow_restore: Some(true),
                lock_days: Some(1),
                agents: Some(vec!["a".into()]),
                message: text(),
            },
        ),
        command("reject", &Reject { message: "no".into() }),
        command("adopt", &Adopt { request: "1".into() }),
        command("add tenant", &AddTenant { name: "a".into() }),
        command(
            "set tenant",
            &ChangeTenant {
                quota_bytes: Some(Big(7)),
                lock_days: Some(1),
                governance_days: Some(1),
            },
        ),
        command(
            "set retention",
            &SetRetention {
                policy: Some(Text("last=1".parse().unwrap())),
                soft_delete_days: Some(7),
            },
        ),
        command("shorten soft deletion", &ShortenSoftDelete { soft_delete_days: 7 }),
        command("shorten lock", &ShortenLock { governance_days: 7 }),
        command("credit clock", &CreditClock { seconds: 7 }),
        command("add storage", &AddStorage { name: "a".into(), path: "/a".into() }),
        command(
            "add user",
            &AddUser {
                name: "a".into(),
                role: Role::Viewer,
                tenants: Some(vec!["a".into()]),
                restore_grant: false,
                password: text(),
            },
        ),
        command(
            "set user",
            &ChangeUser {
                role: Some(Role::Viewer),
                tenants: Some(vec!["a".into()]),
                all_tenants: false,
                restore_grant: Some(true),
            },
        ),
        command(
            "add token",
            &AddToken {
                user: text(),
                days: Some(1),
                role: Some(Role::Viewer),
                tenants: Some(vec!["a".into()]),
            },
        ),
        command(
            "add enrolment",
            &AddEnrolment { tenant: "a".into(), days: Some(1), note: "n".into() },
        ),
        command("approve", &Approve { digest: "00".into() }),
        command("open pairing", &OpenPairing { minutes: Some(5) }),
        command("login", &Login { username: "a".into(), password: "b".into() }),
        command(
            "decide",
            &json::from_slice::<Decide>(br#"{"request_id":"1","accept":true}"#).unwrap(),
        ),
    ]
}

/// The first field of a body, as `"name":`.
fn first_field(right: &str) -> &str {
    let end = right.find(':').unwrap();
    &right[1..=end]
}

fn wrong_texts(right: &str) -> Vec<(&'static str, String)> {
    let inner = &right[1..right.len() - 1];
    let field = first_field(right);
    let nested = |n: usize| format!("{{{inner},\"x\":{}{}}}", "[".repeat(n), "]".repeat(n));
    let value_replaced = |value: &str| {
        let rest = inner.split_once(':').unwrap().1;
        // The first value ends at the next top-level comma; the samples put none inside it.
        let after = rest.find(",\"").map_or("", |at| &rest[at..]);
        format!("{{{field}{value}{after}}}")
    };
    vec![
        ("nothing", String::new()),
        ("blank", "  ".into()),
        ("null", "null".into()),
        ("array", format!("[{right}]")),
        ("number", "7".into()),
        ("text", format!("{right:?}")),
        ("unknown field", format!("{{{inner},\"unknown\":1}}")),
        ("unknown null field", format!("{{{inner},\"unknown\":null}}")),
        ("unknown first field", format!("{{\"unknown\":1,{inner}}}")),
        (
            "twice the field",
            format!("{{{inner},{}}}", inner.split_once(",\"").map_or(inner, |(a, _)| a)),
        ),
        (
            "twice, escaped",
            format!("{{{inner},\"\\u00{:02x}{}0}}", field.as_bytes()[1], &field[2..]),
        ),
        ("other case", format!("{{{}{}", field.to_uppercase(), &right[1 + field.len()..])),
        ("NaN", value_replaced("NaN")),
        ("infinity", value_replaced("Infinity")),
        ("out of range", value_replaced("1e999")),
        ("huge", value_replaced("123456789012345678901234567890")),
        ("negative zero", value_replaced("-0.0")),
        ("object", value_replaced("{\"a\":1}")),
        ("deep", nested(40)),
        ("very deep", nested(100_000)),
        ("deep array first", "[".repeat(100_000)),
        ("BOM", format!("\u{feff}{right}")),
        ("second document", format!("{right}{right}")),
        ("trailing text", format!("{right} x")),
        ("trailing comma", format!("{{{inner},}}")),
        ("comment", format!("/* */{right}")),
        ("single quotes", right.replace('"', "'")),
        ("cut", right[..right.len() - 1].into()),
        ("long string", format!("{{{inner},\"{}\":1}}", "x".repeat(20_000))),
        ("lone surrogate", value_replaced("\"\\ud800\"")),
        ("raw control", value_replaced("\"a\u{1}b\"")),
        ("raw newline", value_replaced("\"a\nb\"")),
    ]
}

#[test]
fn f_07_command_bodies_refuse_the_corpus() {
    let mut n_cases = 0;
    for command in commands() {
        assert!((command.reads)(&command.right), "{}: {}", command.name, command.right);
        for (what, text) in wrong_texts(&command.right) {
            n_cases += 1;
            assert!(!(command.reads)(&text), "{} read {what}: {text:.200}", command.name);
        }
        // Not UTF-8 at all.
        let bytes = [command.right.as_bytes(), b"\xff"].concat();
        assert!(json::from_slice::<Accept>(&bytes).is_err());
    }
    assert!(n_cases >= 300, "{n_cases} cases");
}

#[test]
fn secrets_do_not_print() {
    let user = AddUser {
        name: "a".into(),
        role: Role::Viewer,
        tenants: None,
        restore_grant: false,
        password: Some("canary".into()),
    };
    assert!(!format!("{user:?}").contains("canary"));
}

#[test]
fn ids_and_paths_are_distinct() {
    for (index, row) in ROWS.iter().enumerate() {
        for other in &ROWS[..index] {
            assert_ne!(row.id, other.id);
            assert!((row.method, row.path) != (other.method, other.path), "{}", row.path);
        }
    }
}
