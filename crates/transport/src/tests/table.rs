//! The published table, row by row, and the traps of its paths.

use super::*;
use offsite_proto::rows;

const GUID: &str = "00112233-4455-6677-8899-AABBCCDDEEFF";

fn replication() -> Table {
    Table::new(&[rows::ALL], Listener::Replication).unwrap()
}

fn path(text: &str) -> Vec<String> {
    text.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn find(table: &Table, method: http::Method, text: &str) -> String {
    match table.find(&method, &path(text)) {
        Found::Row(index, _) => table.entries[index].row.id.to_owned(),
        Found::OtherMethods(methods) => format!("405 {methods:?}"),
        Found::Malformed(name) => format!("400 {name}"),
        Found::Unknown => "404".to_owned(),
    }
}

fn sample(row: &Row) -> String {
    row.segments().fold(String::new(), |path, part| match part {
        Segment::Literal(text) => format!("{path}/{text}"),
        Segment::Parameter(name) => match Kind::of(name) {
            Kind::Id => format!("{path}/{GUID}"),
            Kind::Number(_) => format!("{path}/7"),
            Kind::Text => format!("{path}/some.dll"),
        },
    })
}

#[test]
fn every_row_is_found_under_its_own_path() {
    for listener in [Listener::Replication, Listener::Operator] {
        let table = Table::new(&[rows::ALL], listener).unwrap();
        for row in rows::ALL.iter().filter(|row| serves(listener, row)) {
            let method = http::Method::from_bytes(row.method.as_str().as_bytes()).unwrap();
            let expected = if matches!(row.id, "10" | "11") { "09" } else { row.id };
            assert_eq!(find(&table, method, &sample(row)), expected, "{}", row.path);
        }
    }
}

#[test]
fn no_path_can_mean_two_rows() {
    // `new` proves it for the parts; this walks all pairs of sample paths as well.
    let table = replication();
    for row in rows::ALL.iter().filter(|row| serves(Listener::Replication, row)) {
        let text = path(&sample(row));
        let n_takers = table
            .entries
            .iter()
            .filter(|entry| entry.row.method == row.method && entry.takes(&text))
            .count();
        assert_eq!(n_takers, 1, "{}", row.path);
    }
}

#[test]
fn reserved_words_are_never_ids() {
    let table = replication();
    let slave = "/replicationcomms/slave";
    for (method, text, expected) in [
        (http::Method::GET, "agents", "09"),
        (http::Method::GET, "agents/all", "V2"),
        (http::Method::DELETE, "agents/all", "405 [Get]"),
        (http::Method::DELETE, "agents/storageUsage", "405 [Get]"),
        (http::Method::GET, "agents/demand", "405 [Post]"),
        (http::Method::GET, "agents/request", "405 [Post]"),
        (http::Method::GET, &format!("agents/{GUID}"), "13"),
        (http::Method::HEAD, &format!("agents/{GUID}"), "13"),
        (http::Method::DELETE, &format!("agents/{GUID}"), "12"),
        (http::Method::PUT, &format!("agents/{GUID}"), "405 [Get, Delete]"),
        (http::Method::GET, "agents/replicationJob", "400 agentId"),
        (http::Method::GET, "agents/{00112233-4455-6677-8899-aabbccddeeff}", "400 agentId"),
        (http::Method::GET, "agents/00112233445566778899aabbccddeeff", "400 agentId"),
        (http::Method::GET, "Agents", "404"),
        (http::Method::POST, "sessions/new", "56"),
        (http::Method::POST, &format!("sessions/{GUID}"), "53"),
        (http::Method::DELETE, "sessions/new", "405 [Post]"),
        (http::Method::GET, &format!("agents/{GUID}/skipCount/1/maxCount/4294967295/rps"), "25"),
        (
            http::Method::GET,
            &format!("agents/{GUID}/skipCount/1/maxCount/4294967296/rps"),
            "400 maxCount",
        ),
        (http::Method::GET, &format!("agents/{GUID}/skipCount/+1/maxCount/1/rps"), "400 skipCount"),
        (http::Method::GET, &format!("{GUID}/{GUID}/-1/transferredblocks"), "400 epochNumber"),
        (http::Method::POST, &format!("sessions/{GUID}/data/18446744073709551616"), "400 dataSize"),
        (http::Method::PATCH, "agents", "405 [Get]"),
        (http::Method::GET, "", "404"),
    ] {
        assert_eq!(
            find(&table, method.clone(), &format!("{slave}/{text}")),
            expected,
            "{method} {text}"
        );
    }
    assert_eq!(find(&table, http::Method::POST, "/api/replication/source"), "404");
}

const fn row(id: &'static str, path: &'static str) -> Row {
    Row { id, path, ..rows::R13 }
}

#[test]
fn a_table_with_a_doubtful_path_is_refused() {
    static MEET: [Row; 2] = [row("x", "/a/{name}"), row("y", "/a/literal")];
    static KINDS: [Row; 2] = [row("x", "/a/{name}"), row("y", "/a/{agentId}")];
    static NUMBERS: [Row; 2] = [row("x", "/a/{dataSize}"), row("y", "/a/7")];
    static APART: [Row; 3] =
        [row("x", "/a/{dataSize}"), row("y", "/a/{agentId}"), row("z", "/a/new")];
    static CONFLICT: [Row; 2] = [row("x", "/a"), Row { request_bytes_max: 1, ..row("y", "/a") }];
    static NOBODY: [Row; 1] = [Row { access: Access::AnyOf(&[]), ..row("x", "/a") }];
    let build = |rows: &'static [Row]| Table::new(&[rows], Listener::Replication).map(|_| ());
    assert_eq!(build(&MEET), Err(TableError::Ambiguous("x", "y")));
    assert_eq!(build(&KINDS), Err(TableError::Ambiguous("x", "y")));
    assert_eq!(build(&NUMBERS), Err(TableError::Ambiguous("x", "y")));
    assert_eq!(build(&APART), Ok(()));
    assert_eq!(build(&CONFLICT), Err(TableError::Conflicting("x", "y")));
    assert_eq!(build(&NOBODY), Err(TableError::NoClass("x")));
}
