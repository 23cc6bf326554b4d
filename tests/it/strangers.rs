//! curl and openssl alone carry out what the published interface promises: no client of ours is
//! involved.

use offsite_tests::{Program, Scene, curl, openssl};
use serde_json::{Value, json};

/// A source that is nothing but files made by openssl.
pub(crate) struct Stranger {
    pub(crate) key: String,
    pub(crate) certificate: String,
    pub(crate) request: String,
    /// The core and the one agent that its request names.
    pub(crate) core: String,
    pub(crate) agent: String,
}

impl Stranger {
    pub(crate) fn new(scene: &Scene, name: &str) -> Self {
        Self::numbered(scene, name, 0xf)
    }

    /// One of several: the number tells their cores and agents apart.
    pub(crate) fn numbered(scene: &Scene, name: &str, number: u8) -> Self {
        let core = format!("0a0b0c0d-0000-4000-8000-0000000000{number:02x}");
        let agent = format!("0a0b0c0d-0000-4000-8000-00000000aa{number:02x}");
        let path = |extension: &str| {
            scene.path().join(format!("{name}.{extension}")).to_str().unwrap().to_owned()
        };
        let (key, certificate, csr) = (path("key"), path("crt"), path("csr"));
        let subject = format!("/CN={name}");
        let made = |arguments: &[&str]| {
            let output = openssl(arguments);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        made(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &key]);
        made(&[
            "req",
            "-new",
            "-x509",
            "-key",
            &key,
            "-subj",
            &subject,
            "-days",
            "30",
            "-out",
            &certificate,
        ]);
        made(&["req", "-new", "-key", &key, "-subj", &subject, "-out", &csr]);
        let csr = std::fs::read_to_string(csr).unwrap();
        let request = json!({
            "clientCertificate": csr,
            "masterCoreInfo": {
                "hostName": name,
                "id": core,
                "isReplicationOnlyRepositorySupported": false,
                "version": { "Major": 1, "Minor": 0, "Build": 0, "Revision": 0 },
            },
            "agents": [{ "id": agent, "displayName": "files" }],
            "customerId": "C-1",
            "emailAddress": "ops@example.net",
            "comments": "by curl",
        });
        let request = scene.file(&format!("{name}.json"), request.to_string().as_bytes());
        Self { key, certificate, request, core, agent }
    }

    /// Files the request; its id.
    pub(crate) fn file(&self, target: &Program) -> String {
        let (status, filed) =
            parsed(self.call(target, "POST", "slave/pairing/request", Some(&self.request)));
        assert_eq!(status, 202, "{filed}");
        filed["requestId"].as_str().unwrap().to_owned()
    }

    /// Files the request, has it accepted and fetches the certificate that it shows from then on.
    pub(crate) fn paired(mut self, scene: &Scene, target: &Program, name: &str) -> Self {
        let id = self.file(target);
        let (_, pending) = operator(target, "GET", "/api/replication/pending", None);
        let row = pending.as_array().unwrap().iter().find(|row| row["request_guid"] == id.as_str());
        let row = row.unwrap_or_else(|| panic!("{id} in {pending}"));
        let decision = json!({
            "request_id": row["request_id"],
            "accept": true,
            "check_code": row["check_code"],
            "digest": row["digest"],
        });
        let (status, decided) =
            operator(target, "POST", "/api/replication/source", Some(&decision));
        assert_eq!(status, 201, "{decided}");
        let path = format!("slave/pairing/requests/{id}/certificate");
        let pem = offsite_tests::eventually("the certificate can be fetched", || {
            let (status, pem) = self.call(target, "GET", &path, None);
            (status == 200).then_some(pem)
        });
        self.certificate = scene.file(&format!("{name}-issued.crt"), pem.as_bytes());
        let sync = self.sync_body(scene);
        let (status, synced) = self.call(target, "POST", "slave/pairing/sync", Some(&sync));
        assert_eq!(status, 200, "{synced}");
        self
    }

    /// The body of row 45.
    pub(crate) fn sync_body(&self, scene: &Scene) -> String {
        let sync = json!({ "coreId": self.core, "hostName": "stranger" });
        scene.file(&format!("sync-{}.json", self.core), sync.to_string().as_bytes())
    }

    pub(crate) fn call(
        &self,
        target: &Program,
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> (u16, String) {
        self.call_at(&target.address("replication"), method, path, body)
    }

    /// The same where the target is reached at another address than it listens at.
    pub(crate) fn call_at(
        &self,
        address: &str,
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> (u16, String) {
        let url = format!("https://{address}/replicationcomms/{path}");
        let mut arguments =
            vec!["--insecure", "--cert", &self.certificate, "--key", &self.key, "-X", method];
        let at_body = body.map(|body| format!("@{body}"));
        if let Some(at_body) = &at_body {
            arguments.extend(["-H", "Content-Type: application/json", "--data-binary", at_body]);
        }
        arguments.push(&url);
        curl(&arguments)
    }
}

pub(crate) fn operator(
    target: &Program,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> (u16, Value) {
    operator_at(&target.address("operator"), target, method, path, body)
}

/// The same where the target is reached at another address than it listens at.
pub(crate) fn operator_at(
    address: &str,
    target: &Program,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> (u16, Value) {
    let url = format!("https://{address}{path}");
    let token = format!("AuthToken: {}", target.init["token"].as_str().unwrap());
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut arguments = vec!["--insecure", "-X", method, "-H", &token];
    if !body.is_empty() {
        arguments.extend(["-H", "Content-Type: application/json", "--data-binary", &body]);
    }
    arguments.push(&url);
    let (status, body) = curl(&arguments);
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

pub(crate) fn parsed((status, body): (u16, String)) -> (u16, Value) {
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

#[test]
fn a_02_curl_and_openssl_pair_by_request() {
    let scene = Scene::new();
    let target = scene.target("target");
    let _daemon = target.serve();
    let stranger = Stranger::new(&scene, "stranger");

    let health = format!("https://{}/healthz", target.address("replication"));
    assert_eq!(curl(&["--insecure", &health]), (200, "ok".to_owned()));
    let (status, core) =
        parsed(stranger.call(&target, "GET", "slave/validate/?useCredentials=false", None));
    assert_eq!((status, &core), (200, &target.init["target_id"]));

    let (status, filed) =
        parsed(stranger.call(&target, "POST", "slave/pairing/request", Some(&stranger.request)));
    assert_eq!(status, 202, "{filed}");
    let id = filed["requestId"].as_str().unwrap();
    let resolution = format!("slave/pairing/requests/{id}/resolution");
    let (status, polled) = parsed(stranger.call(&target, "GET", &resolution, None));
    assert_eq!((status, &polled["resolution"]), (202, &json!("pending")));

    let (status, pending) = operator(&target, "GET", "/api/replication/pending", None);
    assert_eq!(status, 200, "{pending}");
    let row = &pending[0];
    assert_eq!(
        (&row["source_name"], &row["request_guid"]),
        (&json!("stranger"), &filed["requestId"])
    );
    // The published sample sends a number, the published type is a string: this is the number.
    let decision = json!({
        "request_id": row["request_id"],
        "accept": true,
        "check_code": row["check_code"],
        "digest": row["digest"],
    });
    let (status, decided) = operator(&target, "POST", "/api/replication/source", Some(&decision));
    assert_eq!((status, &decided["status"]), (201, &json!("accepted")), "{decided}");
    let (status, again) = operator(&target, "POST", "/api/replication/source", Some(&decision));
    assert_eq!((status, &again["error"]["code"]), (409, &json!("already_resolved")), "{again}");
    assert_eq!(again["result"][0]["code"], "already_resolved", "the published result object");

    let certificate = offsite_tests::eventually("the certificate can be fetched", || {
        let (status, polled) = parsed(stranger.call(&target, "GET", &resolution, None));
        (status == 200).then(|| assert_eq!(polled["resolution"], "accepted"))?;
        let path = format!("slave/pairing/requests/{id}/certificate");
        let (status, pem) = stranger.call(&target, "GET", &path, None);
        (status == 200).then_some(pem)
    });
    let issued = scene.file("issued.crt", certificate.as_bytes());
    check_profile(&issued);

    let paired = Stranger { certificate: issued, ..stranger };
    let sync = paired.sync_body(&scene);
    let (status, synced) = parsed(paired.call(&target, "POST", "slave/pairing/sync", Some(&sync)));
    assert_eq!((status, &synced["pairingState"]), (200, &json!("Active")), "{synced}");
    let (status, _) =
        paired.call(&target, "DELETE", "slave/pairing?deleteRecoveryPoints=false", None);
    assert_eq!(status, 204);
    // The end of the pairing cuts every connection of its key, this call's perhaps among them.
    let (status, refused) = offsite_tests::eventually("the end is told", || {
        let answer = parsed(paired.call(&target, "POST", "slave/pairing/sync", Some(&sync)));
        (answer.0 != 0).then_some(answer)
    });
    assert_eq!((status, &refused["error"]["code"]), (403, &json!("not_paired")));
}

fn check_profile(certificate: &str) {
    let output = openssl(&["x509", "-in", certificate, "-noout", "-text"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for expected in [
        "Version: 3 (0x2)",
        "CA:FALSE",
        "TLS Web Client Authentication",
        "Digital Signature",
        "prime256v1",
    ] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
    for unexpected in
        ["TLS Web Server Authentication", "CA:TRUE", "stranger", "Subject Alternative"]
    {
        assert!(!text.contains(unexpected), "{unexpected} in\n{text}");
    }
}

#[test]
fn f_03_nothing_older_than_tls_1_3_is_spoken() {
    let scene = Scene::new();
    let target = scene.target("target");
    let _daemon = target.serve();
    for listener in ["replication", "operator"] {
        let address = target.address(listener);
        let connect = |version: &str| {
            let output = openssl(&["s_client", "-connect", &address, version, "-brief"]);
            output.status.success()
        };
        assert!(connect("-tls1_3"), "{listener}");
        for version in ["-tls1_2", "-tls1_1", "-tls1"] {
            assert!(!connect(version), "{listener} {version}");
        }
    }
}

#[test]
fn credentials_of_one_listener_open_nothing_on_the_other() {
    let scene = Scene::new();
    let target = scene.target("target");
    let _daemon = target.serve();
    let stranger = Stranger::new(&scene, "stranger");
    let token = format!("AuthToken: {}", target.init["token"].as_str().unwrap());
    let replication = |path: &str| format!("https://{}{path}", target.address("replication"));
    let agents = replication("/replicationcomms/slave/agents");
    let (status, body) = curl(&["--insecure", "-H", &token, &agents]);
    assert_eq!(status, 401, "{body}");
    let pending = format!("https://{}/api/replication/pending", target.address("operator"));
    let (status, body) =
        curl(&["--insecure", "--cert", &stranger.certificate, "--key", &stranger.key, &pending]);
    assert_eq!(status, 401, "{body}");
    let (status, body) =
        curl(&["--insecure", "-H", &token, &replication("/api/replication/pending")]);
    assert_eq!(status, 404, "{body}");
}

/// The head and the body of an answer, line by line, without the moment and the number that every
/// answer has of its own.
fn whole_answer(stranger: &Stranger, target: &Program, path: &str) -> Vec<String> {
    let url = format!("https://{}/replicationcomms/{path}", target.address("replication"));
    let identity = ["--cert", &stranger.certificate, "--key", &stranger.key];
    let (_, text) = curl(&[&["--insecure", "--include"], &identity[..], &[&url]].concat());
    let number = text.lines().find_map(|line| line.strip_prefix("offsite-request: "));
    let number = number.unwrap_or_else(|| panic!("no number in {text:?}")).trim().to_owned();
    assert_eq!(number.len(), 16, "{text:?}");
    let lines = text.lines().map(|line| line.trim_end().replace(&number, "NUMBER"));
    lines.map(|line| if line.starts_with("date: ") { "date".to_owned() } else { line }).collect()
}

#[test]
fn a_06_not_yours_and_not_there_are_one_answer_to_the_last_header() {
    let scene = Scene::new();
    let target = scene.target("target");
    let _daemon = target.serve();
    let (own, other) =
        (Stranger::numbered(&scene, "own", 1), Stranger::numbered(&scene, "other", 2));
    let unknown = Stranger::numbered(&scene, "unknown", 3);
    let _filed = own.file(&target);
    let others = other.file(&target);
    let nobodys = "0a0b0c0d-0000-4000-8000-0000000000ff";
    for part in ["resolution", "certificate", "target-certificate"] {
        let asked = |stranger: &Stranger, request: &str| {
            whole_answer(stranger, &target, &format!("slave/pairing/requests/{request}/{part}"))
        };
        let not_there = asked(&own, nobodys);
        assert!(not_there[0].contains("404"), "{not_there:?}");
        assert_eq!(asked(&own, &others), not_there, "{part}: another's");
        assert_eq!(
            asked(&unknown, &others),
            not_there,
            "{part}: another's, by a key without a row"
        );
        assert_eq!(asked(&unknown, nobodys), not_there, "{part}: nobody's, by a key without a row");
    }
}
