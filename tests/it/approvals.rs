//! Four eyes by command line alone: one person begins, another with a password of his own agrees.

use offsite_tests::{Program, Scene};
use serde_json::Value;

/// A target with an officer named bob, who has a password; the file with his token beside it.
struct Office {
    scene: Scene,
    target: Program,
    token: String,
}

impl Office {
    fn with_officer(scene: Scene, target: Program) -> Self {
        let password = scene.file("bob.password", b"correct horse battery\n");
        target.json(&["users", "add", "bob", "--role", "officer", "--password-file", &password]);
        let login = ["login", "--user", "bob", "--password-file", &password];
        // What people read on stdout is the token and nothing else.
        let shown = target.run(&login).expect_code(0);
        assert!(shown.stdout.starts_with("offsite_") && shown.stdout.lines().count() == 1);
        let token = scene.file("bob.token", shown.stdout.as_bytes());
        Self { scene, target, token }
    }

    /// A command that bob gives.
    fn bob(&self, words: &[&str]) -> Value {
        self.target.json(&[words, &["--token-file", &self.token]].concat())
    }

    fn bob_is_refused(&self, words: &[&str], code: i32) -> String {
        self.target.refused(&[words, &["--token-file", &self.token]].concat(), code).0
    }

    fn names(&self, what: &str) -> Vec<String> {
        let listed = self.target.json(&[what, "list"]);
        let names = listed.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap());
        names.map(str::to_owned).collect()
    }
}

#[test]
fn c_06_a_second_person_agrees_by_command_line() {
    let scene = Scene::new();
    let target = scene.target("target");
    let _daemon = target.serve();
    let office = Office::with_officer(scene, target);
    let target = &office.target;
    target.json(&["tenants", "add", "acme"]);
    target.json(&["tenants", "add", "umbra"]);
    let asked = target.json(&["tenants", "delete", "acme"]);
    let other = target.json(&["tenants", "delete", "umbra"]);
    let (id, digest) = (asked["approval_id"].as_str().unwrap(), asked["digest"].as_str().unwrap());
    assert_eq!(target.json(&["approvals", "list"]).as_array().unwrap().len(), 2);
    let shown = office.bob(&["approvals", "show", id]);
    assert_eq!((&shown["act"], &shown["state"]), (&"delete_tenant".into(), &"waiting".into()));
    assert!(shown["what"].to_string().contains("acme"), "{shown}");

    // Whoever began it is one person, with or without a token that he made for somebody else.
    let refused = target.run(&["approvals", "approve", id]).expect_code(3);
    assert!(refused.stderr.contains("a second person must agree"), "{refused:?}");
    assert!(refused.stderr.contains("offsite-target login --user"), "{refused:?}");
    let made = target.json(&["tokens", "add", "--user", "bob"]);
    let made = office.scene.file("made.token", made["token"].as_str().unwrap().as_bytes());
    let by_made = ["approvals", "approve", id, "--token-file", &made];
    assert_eq!(target.refused(&by_made, 3).0, "forbidden");
    let wrong = office.scene.file("wrong.token", b"offsite_0123");
    let by_wrong = ["approvals", "approve", id, "--token-file", &wrong];
    assert_eq!(target.refused(&by_wrong, 3).0, "unauthenticated");
    // Nor does an agreement to one thing serve for another.
    let others = other["digest"].as_str().unwrap();
    let changed = office.bob_is_refused(&["approvals", "approve", id, "--digest", others], 3);
    assert_eq!(changed, "request_changed");
    assert_eq!(office.bob_is_refused(&["approvals", "show", "nonsense"], 4), "request_unknown");
    assert!(office.names("tenants").contains(&"acme".to_owned()));

    let done = office.bob(&["approvals", "approve", id, "--digest", digest]);
    assert_eq!(done["state"], "done", "{done}");
    assert!(!office.names("tenants").contains(&"acme".to_owned()), "it is done");
    assert_eq!(office.bob_is_refused(&["approvals", "approve", id], 3), "already_resolved");
    let audit = office.bob(&["audit", "list"]).to_string();
    assert!(audit.contains("user bob"), "the log names him: {audit}");
    assert!(target.json(&["audit", "verify"])["first_bad"].is_null());
}

#[test]
fn a_second_person_refuses_by_command_line() {
    let scene = Scene::new();
    let target = scene.target("target");
    let _daemon = target.serve();
    let office = Office::with_officer(scene, target);
    office.target.json(&["users", "add", "carl", "--role", "viewer"]);
    let changed = office.target.json(&["users", "set", "carl", "--role", "administrator"]);
    let id = changed["approval"]["approval_id"].as_str().unwrap();
    assert_eq!(office.target.refused(&["approvals", "reject", id], 3).0, "forbidden");
    assert_eq!(office.bob(&["approvals", "reject", id])["state"], "rejected");
    assert_eq!(office.bob_is_refused(&["approvals", "approve", id], 3), "already_resolved");
    let users = office.target.json(&["users", "list"]);
    let carl = users.as_array().unwrap().iter().find(|row| row["name"] == "carl").unwrap();
    assert_eq!(carl["role"], "viewer");
    // What bob may not do alone he may not do over the local socket either.
    assert_eq!(office.bob_is_refused(&["tenants", "add", "acme"], 3), "forbidden");
}

#[test]
fn g_11_an_account_of_one_tenant_cannot_count_the_whole_store() {
    let scene = Scene::new();
    let target = scene.target("target");
    let _daemon = target.serve();
    target.json(&["tenants", "add", "acme"]);
    target.json(&["users", "add", "eve", "--role", "operator", "--tenant", "acme"]);
    let made = target.json(&["tokens", "add", "--user", "eve"]);
    let eve = scene.file("eve.token", made["token"].as_str().unwrap().as_bytes());
    for about_all in [
        &["verify"][..],
        &["gc"],
        &["scrub"],
        &["retention", "set", "last=1"],
        &["retention", "shorten", "--soft-delete", "7"],
        &["retention", "credit-clock", "--seconds", "60"],
    ] {
        let asked = [about_all, &["--token-file", &eve]].concat();
        let (code, message) = target.refused(&asked, 3);
        assert!(code == "forbidden" && message.contains("limited to tenants"), "{message}");
    }
    assert_eq!(target.json(&["verify"])["damaged"], 0);
    // Where there is something for her, it is that of her tenant.
    target.json(&["tenants", "add", "others"]);
    let report = |asked: &[&str]| target.json(&[&["storage", "report"], asked].concat());
    let (hers, all) = (report(&["--token-file", &eve]), report(&[]));
    let tenants = |report: &Value| report["tenants"].as_array().unwrap().len();
    assert_eq!((tenants(&hers), tenants(&all)), (1, 2), "{hers}");
    assert_eq!(hers["tenants"][0]["tenant"], "acme");
    assert!(hers["store"].is_null() && all["store"].is_object(), "{hers}");
    let status = target.json(&["status", "--token-file", &eve]);
    assert!(status["upkeep"].is_null(), "{status}");
    assert!(target.json(&["status"])["upkeep"].is_object());
}
