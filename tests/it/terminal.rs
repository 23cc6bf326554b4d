//! A-11 at the source: what a target's operator wrote reaches a terminal as letters and as nothing
//! else.

use offsite_tests::pairing::{add_agent, state};
use offsite_tests::{Program, Ran, Scene, eventually};
use serde_json::Value;

use crate::hostile::Hostile;

/// Clears the screen, turns the text around, begins lines that look like ours, hides letters.
const HOSTILE: &str = concat!(
    "no\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31m\u{202e}gnp\u{2028}FORGED state  active",
    "\u{2029}\u{85}FORGED\nFORGED state  active\r\u{8}\u{7f}\u{200b}\u{2066}\u{feff}\u{e0041}",
);

/// None of it is raw in what people and scripts are shown, and no line begins with it.
#[track_caller]
fn is_tame(ran: &Ran, what: &str) {
    for (stream, text) in [("stdout", &ran.stdout), ("stderr", &ran.stderr)] {
        for letter in HOSTILE.chars().filter(|letter| !letter.is_ascii() || letter.is_control()) {
            // A line's end of ours is one; of theirs there is none, as the next check shows.
            let is_ours = letter == '\n';
            assert!(is_ours || !text.contains(letter), "{what}: {letter:?} in {stream} {text:?}");
        }
        let forged = text.lines().find(|line| line.trim_start().starts_with("FORGED"));
        assert_eq!(forged, None, "{what}: {stream} {text:?}");
    }
}

/// Runs a command for people and for scripts; what scripts read is what was said, letter for
/// letter.
#[track_caller]
fn shown(source: &Program, words: &[&str], code: i32, place: fn(&Value) -> &Value) {
    let people = source.run(words).expect_code(code);
    is_tame(&people, &words.join(" "));
    let said = format!("{}{}", people.stdout, people.stderr);
    assert!(said.contains("\\u{1b}[2J") && said.contains("\\u{202e}gnp"), "{words:?}: {said}");
    let scripts = source.run(&[words, &["--json"]].concat()).expect_code(code);
    is_tame(&scripts, &format!("{} --json", words.join(" ")));
    let document = scripts.json();
    let text = place(&document).as_str().unwrap_or_else(|| panic!("{words:?}: {document}"));
    assert!(text.contains(HOSTILE), "{words:?}: {text:?}");
}

#[test]
fn a_11_what_a_targets_operator_writes_cannot_steer_the_sources_terminal() {
    let scene = Scene::new();
    let hostile = Hostile::serve();
    let source = scene.source("source");
    let daemon = source.serve();
    add_agent(&source, scene.path(), "web");
    let request = ["pair", "request", &hostile.url, "--agent", "web"];
    let of_error: fn(&Value) -> &Value = |document| &document["error"]["message"];
    let of_pairing: fn(&Value) -> &Value = |document| &document["message"];

    hostile.script().reason = Some(HOSTILE.to_owned());
    shown(&source, &request, 3, of_error);
    hostile.script().reason = None;
    hostile.script().refusal = Some(HOSTILE.to_owned());
    shown(&source, &request, 3, of_error);
    hostile.script().refusal = None;
    source.json(&request);
    hostile.script().rejection = Some(HOSTILE.to_owned());
    eventually("the rejection is there", || (state(&source) == "rejected").then_some(()));
    shown(&source, &["pair", "wait"], 3, of_pairing);
    shown(&source, &["pair", "status"], 0, of_pairing);
    shown(&source, &["status"], 0, |document| &document["pairings"][0]["message"]);
    let log = daemon.log();
    for letter in ['\u{1b}', '\u{202e}', '\u{2028}', '\u{7}'] {
        assert!(!log.contains(letter), "{letter:?} in the log:\n{log:?}");
    }
}
