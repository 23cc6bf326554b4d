//! A commit that a real target is asked for again and again, by curl alone: killed while it is
//! asked first, so that nobody hears the answer, and killed again before each further time.

use std::process::Stdio;
use std::time::Duration;

use offsite_model::{ListDigest, Luck as _, SessionId};
use offsite_proto::stream::{Encoder, End, Opcode, StreamKind};
use offsite_proto::window::{KeyWindow, ListEntry};
use offsite_testkit::SeededLuck;
use offsite_tests::{Daemon, Program, Scene, curl, eventually, pause};
use serde_json::{Value, json};

use super::strangers::{Stranger, parsed};

/// Commits, at least and at most, and how often each is asked for again. The many are in the target
/// core's own tests.
const COMMITS: u8 = 6;
const COMMITS_MAX: u8 = 30;
const ASKS: usize = 10;
const RECORD_BYTES: u32 = 4_096;
/// Within which the target is killed after curl was started, at first.
const MICROS_MAX: u64 = 25_000;

/// An image of zeros, of a size of its own: one entry, and nothing to send.
pub(crate) struct Image {
    number: u8,
    open: String,
    list: [ListEntry; 1],
}

fn guid(number: u8, what: u8) -> String {
    format!("{number:02x}{what:02x}0000-0000-4000-8000-000000000000")
}

impl Image {
    pub(crate) fn new(scene: &Scene, source: &Stranger, number: u8) -> Self {
        let bytes = RECORD_BYTES * u32::from(number);
        let list = [ListEntry::zeros(0, bytes)];
        let mut digest = ListDigest::new();
        list.iter().for_each(|entry| digest.entry(entry.offset(), entry.bytes(), &entry.key()));
        let open = json!({
            "agentId": source.agent,
            "jobId": guid(number, 1),
            "recoveryPointId": guid(number, 2),
            "imageId": guid(number, 3),
            "volumeDriverId": guid(number, 4),
            "epochNumber": 1,
            "imageType": "Base",
            "sizeBytes": bytes,
            "recordSize": RECORD_BYTES,
            "recordCount": 1,
            "imageDigest": digest.finish().to_string(),
            "utcCreatedTimestamp": "2026-03-01T08:00:00Z",
            "volumeImageCount": 1,
            "commitToken": guid(number, 5),
        });
        let open = scene.file(&format!("open-{number}.json"), open.to_string().as_bytes());
        Self { number, open, list }
    }

    /// The body of row 5.
    fn keys(&self, scene: &Scene, session: &str) -> String {
        let mut encoder = Encoder::new(StreamKind::Keys, session.parse::<SessionId>().unwrap());
        let window = KeyWindow { window: 0, first_ordinal: 0, entries: &self.list }.write();
        encoder.frame(0, Opcode::Keys, &[&window]).unwrap();
        let end = End { items: 1, bytes: window.len() as u64 }.write();
        encoder.frame(0, Opcode::End, &[&end]).unwrap();
        scene.file(&format!("keys-{}", self.number), &encoder.take())
    }
}

/// A target that dies and comes back, and its source.
pub(crate) struct Life {
    pub(crate) scene: Scene,
    luck: SeededLuck,
    pub(crate) target: Program,
    pub(crate) daemon: Option<Daemon>,
    pub(crate) source: Stranger,
    n_unheard: usize,
    /// Within which the next kill comes: half as long after each answer that was heard, so that a
    /// target that answers sooner is killed sooner.
    micros_max: u64,
}

impl Life {
    pub(crate) fn begin(luck: SeededLuck) -> Self {
        let scene = Scene::new();
        let target = scene.target_that_stays("target");
        let daemon = Some(target.serve());
        let source = Stranger::new(&scene, "source").paired(&scene, &target, "source");
        Self { scene, luck, target, daemon, source, n_unheard: 0, micros_max: MICROS_MAX }
    }

    pub(crate) fn restart(&mut self) {
        // It may be gone already.
        if let Some(daemon) = self.daemon.take() {
            daemon.kill_9();
        }
        self.daemon = Some(self.target.serve());
    }

    #[track_caller]
    fn call(&self, method: &str, path: &str, body: Option<&str>) -> (u16, Value) {
        let ask = || Some(self.source.call(&self.target, method, path, body));
        parsed(eventually("the target answers", || ask().filter(|(status, _)| *status != 0)))
    }

    /// Row 56.
    #[track_caller]
    pub(crate) fn open(&self, image: &Image) -> (String, String) {
        let (status, opened) = self.call("POST", "slave/sessions/new", Some(&image.open));
        assert!(matches!(status, 200 | 201), "{opened}");
        let text = |field: &str| opened[field].as_str().unwrap().to_owned();
        (text("sessionId"), text("state"))
    }

    /// Row 5; then the image can be committed.
    #[track_caller]
    pub(crate) fn offer(&self, image: &Image, session: &str) {
        let path = format!("{}/{}/{session}", self.source.agent, guid(image.number, 1));
        let address = self.target.address("replication");
        let url = format!("https://{address}/replicationcomms/slave/{path}/records/keys");
        let body = format!("@{}", image.keys(&self.scene, session));
        let media = format!("Content-Type: {}", StreamKind::Keys.media_type());
        let Stranger { key, certificate, .. } = &self.source;
        let identity = ["--insecure", "--http1.1", "--cert", certificate, "--key", key];
        let answer = self.scene.path().join("answer");
        let sent = ["-H", &media, "--data-binary", &body, "--output", answer.to_str().unwrap()];
        let status = eventually("the keys are taken", || {
            let (status, _) = curl(&[&identity[..], &sent, &[&url]].concat());
            (status != 0).then_some(status)
        });
        assert_eq!(status, 200);
    }

    /// The path of row 7, or of row 57.
    fn path_of_commit(&self, image: &Image, session: &str, is_waiting: bool) -> String {
        let start = if is_waiting { "" } else { "start/" };
        let (agent, job) = (&self.source.agent, guid(image.number, 1));
        format!("slave/{start}{agent}/{job}/{session}?commit=true")
    }

    /// Asks for the first time, and the target dies meanwhile.
    fn ask_unheard(&mut self, image: &Image, session: &str) {
        let path = self.path_of_commit(image, session, self.luck.chance(1, 2));
        let address = self.target.address("replication");
        let url = format!("https://{address}/replicationcomms/{path}");
        let Stranger { key, certificate, .. } = &self.source;
        let asked = std::process::Command::new("curl")
            .args(["--silent", "--insecure", "--max-time", "30", "--cert", certificate])
            .args(["--key", key, "-X", "DELETE", "--write-out", "%{http_code}", &url])
            .stdout(Stdio::piped())
            .spawn();
        let asked = asked.unwrap();
        pause(Duration::from_micros(self.luck.below(self.micros_max)));
        self.restart();
        let said = asked.wait_with_output().unwrap().stdout;
        if said.ends_with(b"000") {
            self.n_unheard += 1;
        } else {
            self.micros_max = (self.micros_max / 2).max(1);
        }
    }

    /// Asks by the session's own path, in either form; the last answer.
    #[track_caller]
    pub(crate) fn ask(&self, image: &Image, session: &str) -> (u16, Value) {
        let path = self.path_of_commit(image, session, self.luck.chance(1, 2));
        let (status, said) = self.call("DELETE", &path, None);
        if status != 202 {
            return (status, said);
        }
        let (agent, job) = (&self.source.agent, guid(image.number, 1));
        self.call("POST", &format!("slave/poke/{agent}/{job}/{session}?wait=30"), None)
    }

    /// Whether a commit that is asked for came about; none where the target knows of no such
    /// session.
    #[track_caller]
    pub(crate) fn ask_session(&self, image: &Image, session: &str) -> Option<bool> {
        let (status, said) = self.ask(image, session);
        match status {
            204 => Some(true),
            200 => said.as_bool(),
            404 => {
                assert_eq!(said["error"]["code"], "session_unknown", "{said}");
                None
            }
            _ => panic!("{status} {said}"),
        }
    }
}

#[test]
fn e_11_a_target_that_is_killed_while_it_commits_gives_one_answer_for_ever() {
    let mut life = Life::begin(SeededLuck::from_env_or(12));
    for number in 1..=COMMITS_MAX {
        if number > COMMITS && life.n_unheard > 0 {
            break;
        }
        let image = Image::new(&life.scene, &life.source, number);
        let (mut session, _) = life.open(&image);
        life.offer(&image, &session);
        life.ask_unheard(&image, &session);
        let mut is_committed = false;
        for ask in 0..ASKS {
            if ask > 0 {
                life.restart();
            }
            let said = life.ask_session(&image, &session);
            assert!(said == Some(true) || !is_committed, "a commit is forgotten");
            is_committed |= said == Some(true);
            let (opened, state) = life.open(&image);
            assert!(state == "Committed" || !is_committed, "{state} after it was committed");
            if state != "Committed" {
                session = opened;
                life.offer(&image, &session);
                is_committed = life.ask_session(&image, &session) == Some(true);
                assert!(is_committed, "it cannot be committed");
            }
        }
        let points = life.target.json(&["points", "list", "files"]);
        assert_eq!(points.as_array().unwrap().len(), usize::from(number), "{points}");
    }
    println!("{} first answers were not heard", life.n_unheard);
    assert!(life.n_unheard > 0, "every answer was heard");
    life.daemon.unwrap().stop();
}
