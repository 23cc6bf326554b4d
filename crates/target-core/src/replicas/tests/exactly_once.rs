//! A commit takes effect once, however often it is asked for and whatever became of the first
//! answers.

use offsite_model::Luck as _;
use offsite_proto::session::{InSession, SessionState};

use super::*;

/// Commits, and how often each is asked for again, on every change.
const COMMITS: u8 = 50;
const ASKS: usize = 10;
/// Changing calls of the disk, within which the power fails while a commit is asked for first.
const CALLS_MAX: u64 = 90;

/// One image, and what its source remembers of it.
struct Asked {
    number: u8,
    contents: Vec<u64>,
    /// Sessions whose commit was begun and whose answer never came.
    sessions: Vec<SessionId>,
    /// The entry of the journal, once a target has said that it is committed.
    entry: Option<u64>,
}

impl Asked {
    fn image(&self) -> Image<'_> {
        Image { owner: owner(1), number: self.number, point: self.number, contents: &self.contents }
    }
}

/// A target that dies and comes back.
struct Life {
    disk: Disk,
    bench: Bench,
    luck: SeededLuck,
    n_cut_short: u64,
    n_done_unheard: u64,
    n_lives: u64,
}

impl Life {
    fn begin(luck: SeededLuck) -> Self {
        let disk = Disk::new(luck.next());
        let bench = Bench::try_started_with(&disk, luck.split("life 0")).unwrap();
        Self { disk, bench, luck, n_cut_short: 0, n_done_unheard: 0, n_lives: 0 }
    }

    /// The target dies, by the power or by itself, and is started again.
    async fn restart(&mut self) {
        match self.luck.chance(1, 2) {
            true => self.disk.power_cut(),
            false => self.disk.kill(),
        }
        self.n_lives += 1;
        let luck = self.luck.split(&format!("life {}", self.n_lives));
        let reborn = Bench::try_started_with(&self.disk, luck).unwrap();
        let dead = std::mem::replace(&mut self.bench, reborn);
        // What it goes on doing reaches no disk, and takes memory.
        dead.replicas.mutations.finish(std::time::Duration::from_secs(60)).await;
    }

    /// Brings all records of an image; the session is ready to be committed.
    async fn bring(&self, image: &Image<'_>) -> Filling {
        let mut filling = self.bench.open(image).unwrap();
        let wanted = self.bench.offer(&mut filling, image).await;
        for (ordinal, _) in wanted.iter().enumerate().filter(|(_, wanted)| **wanted) {
            self.bench.send(&filling, image, ordinal);
        }
        filling
    }

    /// The first time: the power fails at some call of the disk, or behind the last; nobody hears
    /// the answer.
    async fn ask_unheard(&mut self, asked: &mut Asked) {
        let image = asked.image();
        let filling = self.bring(&image).await;
        self.disk.cut_after(1 + self.luck.below(CALLS_MAX));
        let ended = filling.live.end(&self.bench.replicas, Input::End { commit: true });
        assert!(ended.is_ok(), "{ended:?}");
        let outcome = match self.luck.below(3) {
            // Row 7, twice at once.
            0 => Some(tokio::join!(self.bench.commit(&filling), self.bench.commit(&filling)).0),
            // Row 57, then row 47.
            1 => Some(filling.live.outcome(None).await.map(|_| ())),
            // Row 57, and then the line is cut: only the disk goes on.
            _ => None,
        };
        match outcome {
            Some(Ok(())) => self.n_done_unheard += 1,
            Some(Err(_)) => self.n_cut_short += 1,
            None => {}
        }
        asked.sessions.push(filling.live.id);
        self.restart().await;
    }

    /// What a target says to a commit that is asked for by its session, in either form; none where
    /// it knows of no such session.
    async fn ask_session(&self, image: &Image<'_>, session: SessionId) -> Option<bool> {
        let open = image.open();
        let path = InSession { agent: open.agent_id.0, job: open.job_id.0, session };
        let live = match self.bench.replicas.session(&image.owner, &path) {
            Ok(live) => live,
            Err(refusal) => {
                assert_eq!(refusal.code, ErrorCode::SessionUnknown, "{refusal}");
                return None;
            }
        };
        let ending = live.end(&self.bench.replicas, Input::End { commit: true }).unwrap();
        let poked = live.outcome(Some(std::time::Duration::ZERO)).await.unwrap();
        Some(ending == Ending::Done && poked)
    }

    /// Asks again as a source does, which does not know what became of it.
    async fn ask_again(&mut self, asked: &mut Asked) {
        let image = asked.image();
        for session in &asked.sessions {
            let said = self.ask_session(&image, *session).await;
            assert!(said != Some(false), "a session that is over commits anew");
            assert!(said.is_some() || asked.entry.is_none(), "a commit is forgotten");
        }
        let caller = Caller { owner: image.owner, is_agent_known: true, quota_bytes: None };
        let opened = self.bench.replicas.open_session(caller, image.open()).unwrap().answer;
        if opened.state != SessionState::Committed {
            assert_eq!(asked.entry, None, "what was committed is not any more");
            if self.luck.chance(1, 3) {
                return self.ask_unheard(asked).await;
            }
            let filling = self.bring(&image).await;
            self.bench.commit(&filling).await.unwrap();
            asked.sessions.push(filling.live.id);
        }
        let (store, open) = (&self.bench.replicas.store, asked.image().open());
        let token = open.commit_token.0.to_bytes();
        let outcome = store.outcome(owner(1).tenant, token).unwrap().unwrap();
        assert_eq!(outcome.point, open.recovery_point_id.0);
        let entry = *asked.entry.get_or_insert(outcome.entry);
        assert_eq!(outcome.entry, entry, "two answers under one token");
    }
}

#[tokio::test]
async fn e_11_fifty_commits_that_are_asked_for_again_and_again_are_fifty_points() {
    let luck = SeededLuck::from_env_or(11);
    let mut life = Life::begin(luck.split("life"));
    let mut all = Vec::new();
    for number in 1..=COMMITS {
        let n_records = luck.between(1, 12);
        let contents = (0..n_records).map(|_| luck.between(1, 200)).collect();
        let mut asked = Asked { number, contents, sessions: Vec::new(), entry: None };
        life.ask_unheard(&mut asked).await;
        for _ in 0..ASKS {
            life.ask_again(&mut asked).await;
            life.restart().await;
        }
        while asked.entry.is_none() {
            life.ask_again(&mut asked).await;
        }
        all.push(asked);
    }
    println!("{} cut short, {} done unheard", life.n_cut_short, life.n_done_unheard);
    assert!(life.n_cut_short > 10 && life.n_done_unheard > 10, "seed {}", luck.seed());
    // Each point once, each by one entry of the journal, and with the bytes that were sent.
    let points = life.bench.replicas.points(&owner(1), None).unwrap();
    assert_eq!(points.len(), all.len());
    let mut entries: Vec<u64> = all.iter().filter_map(|asked| asked.entry).collect();
    entries.sort_unstable();
    entries.dedup();
    assert_eq!(entries.len(), all.len(), "two points in one entry");
    let spread = entries.last().unwrap() - entries.first().unwrap() + 1;
    assert_eq!(spread, all.len() as u64, "the journal has entries of other commits");
    for asked in &all {
        assert_eq!(life.bench.bytes_of(&asked.image()), asked.image().bytes());
    }
}
