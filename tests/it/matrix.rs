//! F-04: the matrix of client certificates, made with openssl.
//!
//! Everybody whom the real target can meet on its listeners, against one row of each class. The
//! strongest forgeries are signed with the target's own authority key over the key of an active
//! pairing and carry the serial number of its certificate, so that each is wrong in one thing only.

use std::path::Path;

use offsite_tests::{Program, Scene, curl_by, openssl};
use serde_json::Value;

use super::strangers::{Stranger, parsed};

/// What a caller shows, and how it must be answered.
struct Case {
    name: &'static str,
    /// Certificate and key; none for nobody.
    shown: Option<(String, String)>,
    expected: Expected,
}

/// The answers by class of row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// Rows for everybody are answered, all others want a credential.
    Nobody,
    /// The same, and the key has no request: polls find nothing, pairing rows know no pairing.
    Stranger,
    /// The key looks after a request that is open, and gets no further.
    Pending,
    /// The key of a pairing under another certificate than the issued one: no further than its
    /// request.
    KeyAlone,
    /// The issued certificate, lately out of time: it may ask for its state and renew.
    Expired,
    /// The issued certificate: the only one that is let in to the rows of sources.
    Source,
    /// The handshake does not come about.
    NoHandshake,
}

fn made(arguments: &[&str]) {
    let output = openssl(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A field of a certificate, as `openssl x509` prints it after the equals sign.
fn field(certificate: &str, option: &str) -> String {
    let output = openssl(&["x509", "-in", certificate, "-noout", option]);
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim().split_once('=').unwrap().1.to_owned()
}

/// What `openssl ca` shall sign.
struct Mint<'a> {
    authority: (&'a str, &'a str),
    key: &'a str,
    serial: &'a str,
    subject: &'a str,
    /// Seconds from now.
    life: (i64, i64),
    digest: &'static str,
    extensions: &'a str,
}

const PROFILE: &str = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n";

impl Mint<'_> {
    fn sign(&self, scene: &Scene, name: &str) -> (String, String) {
        let word =
            |what: &str| scene.path().join(format!("{name}.{what}")).to_str().unwrap().to_owned();
        let (request, certificate) = (word("csr"), word("crt"));
        made(&["req", "-new", "-key", self.key, "-subj", "/CN=anybody", "-out", &request]);
        let database = scene.file(&format!("{name}.index"), b"");
        let serial = scene.file(&format!("{name}.serial"), self.serial.as_bytes());
        let folder = scene.path().display();
        let configuration = format!(
            "[ca]\ndefault_ca=it\n[it]\ndatabase={database}\nserial={serial}\nnew_certs_dir={folder}\npolicy=any\n\
             unique_subject=no\n[any]\ncommonName=optional\n[ext]\n{}",
            self.extensions
        );
        let configuration = scene.file(&format!("{name}.cnf"), configuration.as_bytes());
        let (begin, end) = (utc(self.life.0), utc(self.life.1));
        let (authority, authority_key) = self.authority;
        let subject = format!("/CN={}", self.subject);
        let mut words = vec![
            "ca",
            "-batch",
            "-notext",
            "-config",
            &configuration,
            "-cert",
            authority,
            "-keyfile",
            authority_key,
            "-in",
            &request,
            "-out",
            &certificate,
            "-subj",
            &subject,
            "-md",
            self.digest,
            "-startdate",
            &begin,
            "-enddate",
            &end,
        ];
        if !self.extensions.is_empty() {
            words.extend(["-extensions", "ext"]);
        }
        made(&words);
        (certificate, self.key.to_owned())
    }
}

/// A moment so many seconds from now, as openssl takes it.
fn utc(secs: i64) -> String {
    let moment =
        format!("@{}", std::time::UNIX_EPOCH.elapsed().unwrap().as_secs().cast_signed() + secs);
    let output = std::process::Command::new("date")
        .args(["-u", "-d", &moment, "+%Y%m%d%H%M%SZ"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A new key of a kind, and a certificate that it signed itself.
fn self_signed(scene: &Scene, name: &str, key: &[&str], options: &[&str]) -> (String, String) {
    let word =
        |what: &str| scene.path().join(format!("{name}.{what}")).to_str().unwrap().to_owned();
    let (path, certificate) = (word("key"), word("crt"));
    made(&[&["genpkey", "-out", &path], key].concat());
    let plain = ["req", "-new", "-x509", "-key", &path, "-subj", "/CN=x", "-days", "9", "-out"];
    made(&[&plain[..], &[&certificate], options].concat());
    (certificate, path)
}

const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

const DAY: i64 = 86_400;

/// Every case. `source` is paired, `pending` has filed a request, `revoked` was paired.
fn cases(
    scene: &Scene,
    target: &Program,
    source: &Stranger,
    pending: &Stranger,
    revoked: Stranger,
) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name, shown, expected| cases.push(Case { name, shown: Some(shown), expected });
    let own = target.data().join("keys/authority.pem");
    let own = own.to_str().unwrap();
    let (other, other_key) =
        self_signed(scene, "other-ca", P256, &["-addext", "keyUsage=keyCertSign"]);
    let (stranger, stranger_key) = self_signed(scene, "unknown", P256, &[]);
    let serial = field(&source.certificate, "-serial");
    let subject =
        field(&source.certificate, "-subject").rsplit('=').next().unwrap().trim().to_owned();
    // As the target issues it, in everything.
    let good = || Mint {
        authority: (own, own),
        key: &source.key,
        serial: &serial,
        subject: &subject,
        life: (-DAY, 30 * DAY),
        digest: "sha256",
        extensions: PROFILE,
    };
    add("self-signed, unknown", (stranger, stranger_key.clone()), Expected::Stranger);
    let shown = (pending.certificate.clone(), pending.key.clone());
    add("self-signed, of a pending request", shown, Expected::Pending);
    let selfmade = scene.path().join("selfmade.crt").to_str().unwrap().to_owned();
    let days = ["-subj", "/CN=x", "-days", "9", "-out", &selfmade];
    made(&[&["req", "-new", "-x509", "-key", &source.key][..], &days].concat());
    add("self-signed, of an active key", (selfmade, source.key.clone()), Expected::KeyAlone);
    let minted = Mint { authority: (&other, &other_key), ..good() }.sign(scene, "other-authority");
    add("another authority, all else right", minted, Expected::KeyAlone);
    let minted = Mint { key: &stranger_key, serial: "4242", ..good() }.sign(scene, "no-row");
    add("the own authority, offline, no row", minted, Expected::Stranger);
    let minted = Mint { key: &stranger_key, ..good() }.sign(scene, "anothers-row");
    add("the own authority, offline, subject and serial of a row", minted, Expected::Stranger);
    let minted = Mint { serial: "4242", ..good() }.sign(scene, "another-serial");
    add("the own authority, offline, an active key", minted, Expected::KeyAlone);
    add("revoked", (revoked.certificate, revoked.key), Expected::Stranger);
    let minted = Mint { life: (-40 * DAY, -3 * DAY), ..good() }.sign(scene, "expired");
    add("expired", minted, Expected::Expired);
    let minted = Mint { life: (-290 * DAY, -200 * DAY), ..good() }.sign(scene, "long-expired");
    add("long expired", minted, Expected::Stranger);
    let minted = Mint { life: (3 * DAY, 30 * DAY), ..good() }.sign(scene, "not-yet");
    add("not valid yet", minted, Expected::Stranger);
    for (name, file, extensions) in [
        ("for servers only", "servers", PROFILE.replace("clientAuth", "serverAuth")),
        ("for clients and servers", "both", PROFILE.replace("clientAuth", "clientAuth,serverAuth")),
        (
            "for nothing in particular",
            "no-eku",
            PROFILE.replace("extendedKeyUsage=clientAuth\n", ""),
        ),
        ("an authority itself", "ca-leaf", PROFILE.replace("CA:FALSE", "CA:TRUE")),
    ] {
        let minted = Mint { extensions: &extensions, ..good() }.sign(scene, file);
        add(name, minted, Expected::KeyAlone);
    }
    let critical = format!("{PROFILE}1.2.3.4=critical,ASN1:NULL\n");
    let minted = Mint { extensions: &critical, ..good() }.sign(scene, "critical");
    add("an unknown critical extension", minted, Expected::NoHandshake);
    let minted = Mint { extensions: "", ..good() }.sign(scene, "v1");
    add("version 1", minted, Expected::NoHandshake);
    let minted = Mint { digest: "sha1", ..good() }.sign(scene, "sha1");
    add("signed over SHA-1", minted, Expected::NoHandshake);
    let rsa =
        self_signed(scene, "rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"], &[]);
    add("RSA of 1024 bits", rsa, Expected::NoHandshake);
    let p224 = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-224"];
    // TLS 1.3 has no name for a signature by such a key, so openssl shows none.
    add("P-224", self_signed(scene, "p224", &p224, &[]), Expected::Nobody);
    let good_text = std::fs::read_to_string(&source.certificate).unwrap();
    let chain = scene.file("chain.crt", good_text.repeat(100).as_bytes());
    add("a chain of 100", (chain, source.key.clone()), Expected::NoHandshake);
    let long = format!("{PROFILE}nsComment={}\n", "x".repeat(1 << 20));
    let minted = Mint { extensions: &long, ..good() }.sign(scene, "long");
    assert!(Path::new(&minted.0).metadata().unwrap().len() > 1 << 20);
    add("a certificate of 1 MiB", minted, Expected::NoHandshake);
    let minted = good().sign(scene, "as-issued");
    // Not a byte of it need be the issued one's: key, serial, profile and authority are.
    add("the issued one, signed again", minted, Expected::Source);
    add("the issued one", (source.certificate.clone(), source.key.clone()), Expected::Source);
    cases.push(Case { name: "none", shown: None, expected: Expected::Nobody });
    cases
}

impl Case {
    /// Status and code of a call; 0 where there was no handshake.
    fn call(
        &self,
        rules: &str,
        address: &str,
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> (u16, Value) {
        let url = format!("https://{address}{path}");
        let ask = |words: &[&str]| {
            let mut command = std::process::Command::new("curl");
            command.env("OPENSSL_CONF", rules);
            curl_by(command, words)
        };
        let mut words = vec!["--insecure", "-X", method];
        if let Some((certificate, key)) = &self.shown {
            words.extend(["--cert", certificate, "--key", key]);
        }
        let at_body = body.map(|body| format!("@{body}"));
        if let Some(at_body) = &at_body {
            words.extend(["-H", "Content-Type: application/json", "--data-binary", at_body]);
        }
        words.push(&url);
        if self.expected == Expected::NoHandshake {
            return parsed(ask(&words));
        }
        // A refusal may overtake the body it refuses, and then curl sees the end and not the
        // answer.
        offsite_tests::eventually(self.name, || {
            let answer = parsed(ask(&words));
            (answer.0 != 0).then_some(answer)
        })
    }
}

#[test]
fn f_04_every_certificate_against_every_class_of_row() {
    let scene = Scene::new();
    let target = scene.target("target");
    let daemon = target.serve();
    let source = Stranger::numbered(&scene, "source", 1).paired(&scene, &target, "source");
    let revoked = Stranger::numbered(&scene, "revoked", 2).paired(&scene, &target, "revoked");
    let other = Stranger::numbered(&scene, "other", 3).paired(&scene, &target, "other");
    let subject = field(&revoked.certificate, "-subject");
    target.json(&["sources", "revoke", subject.rsplit('=').next().unwrap().trim()]);
    let pending = Stranger::numbered(&scene, "pending", 4);
    let request = pending.file(&target);
    let sync = source.sync_body(&scene);
    let (replication, operator) = (target.address("replication"), target.address("operator"));
    let comms = |path: &str| format!("/replicationcomms/slave/{path}");
    let cases = cases(&scene, &target, &source, &pending, revoked);
    assert_eq!(cases.len(), 25);
    // The caller's own rules about weak keys shall not spare the target the sight of them.
    let rules = "openssl_conf=i\n[i]\nssl_conf=s\n[s]\nsystem_default=d\n[d]\nCipherString=DEFAULT@SECLEVEL=0\n";
    let rules = scene.file("openssl.cnf", rules.as_bytes());
    for case in &cases {
        use Expected::{Expired, KeyAlone, NoHandshake, Nobody, Pending, Source, Stranger};
        let (name, expected) = (case.name, case.expected);
        let word = |(status, body): (u16, Value)| {
            let code = body["error"]["code"].as_str().unwrap_or_default().to_owned();
            (status, code)
        };
        let call = |method, path: &str, body| case.call(&rules, &replication, method, path, body);
        let told = |status: u16, code: &str| match expected {
            NoHandshake => (0, String::new()),
            _ => (status, code.to_owned()),
        };
        // ANON, row 59.
        let anon = word(call("GET", &comms("validate/?useCredentials=false"), None));
        assert_eq!(anon, told(200, ""), "{name}, row 59");
        // ENROLLING, row P1.
        let path = comms(&format!("pairing/requests/{request}/resolution"));
        let polled = word(call("GET", &path, None));
        let wanted = match expected {
            Pending => told(202, ""),
            Nobody => told(401, "unauthenticated"),
            Expired => told(403, "not_paired"),
            _ => told(404, "request_unknown"),
        };
        assert_eq!(polled, wanted, "{name}, row P1");
        // Row 45, which enrolling keys may ask as well: the key is what it goes by.
        let (status, body) = call("POST", &comms("pairing/sync"), Some(&sync));
        let is_active = body["pairingState"] == "Active";
        let of_the_source = matches!(expected, KeyAlone | Expired | Source);
        assert_eq!(is_active, of_the_source, "{name}, row 45: {body}");
        let wanted = match expected {
            Pending | KeyAlone | Expired | Source => told(200, ""),
            Nobody => told(401, "unauthenticated"),
            _ => told(403, "not_paired"),
        };
        assert_eq!(word((status, body)), wanted, "{name}, row 45");
        // CERT, row 13: one's own agent, then another tenant's, which is as absent as one that
        // never was.
        let of = |agent: &str| word(call("GET", &comms(&format!("agents/{agent}")), None));
        let own = of(&source.agent);
        let wanted = match expected {
            Nobody => Some(told(401, "unauthenticated")),
            Pending | KeyAlone => Some(told(409, "pairing_pending")),
            Stranger | Expired => Some(told(403, "not_paired")),
            NoHandshake => Some(told(0, "")),
            Source => None,
        };
        let is_let_in = !matches!(own.0, 0 | 401 | 403 | 409);
        assert_eq!(is_let_in, expected == Source, "{name}, row 13: {own:?}");
        if let Some(wanted) = wanted {
            assert_eq!(own, wanted, "{name}, row 13");
        }
        let never = of("0a0b0c0d-0000-4000-8000-0000000000ee");
        assert_eq!(of(&other.agent), never, "{name}, another tenant's agent");
        assert_ne!(never.0, 200, "{name}");
        // ADMIN, row 36: no certificate is an administrator's credential.
        let admin = word(call("GET", &comms("cores/masters"), None));
        assert_eq!(admin, told(401, "unauthenticated"), "{name}, row 36");
        // The operator listener asks for no certificate, so none is looked at there.
        let operators = word(case.call(&rules, &operator, "GET", "/api/replication/pending", None));
        assert_eq!(operators, (401, "unauthenticated".to_owned()), "{name}, operator listener");
    }
    assert!(daemon.stop().success());
}
