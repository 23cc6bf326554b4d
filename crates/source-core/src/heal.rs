//! Healing, both ways, after each job (F11): what the target found damaged is sent again, and what
//! this source found damaged is fetched.
//!
//! Both are rare and small, so both go step by step, a few MiB at a time: what is cut is found
//! again at the next job.
//!
//! **Absent:** finding damage (verify, and whoever reads), points: none is made and none changes.

use std::collections::{BTreeMap, HashMap};

use http::HeaderValue;
use offsite_exchange::replication::plan::ImageName;
use offsite_exchange::replication::source::Failure;
use offsite_model::{AgentId, JobId, Key, SessionId};
use offsite_proto::catalog::OfAgent;
use offsite_proto::endpoint::{Params as _, Row, Values};
use offsite_proto::error::{ErrorBody, ErrorCode, Refusal};
use offsite_proto::heal::{DamagedRecord, ListDamaged, WhichList};
use offsite_proto::json::{Json, from_slice};
use offsite_proto::limits::WINDOW_KEYS_MAX;
use offsite_proto::page::Paged;
use offsite_proto::rows;
use offsite_proto::session::{
    AskCommitted, CommitToken, EndSession, ImageType, InSession, Open, OpenSession, Poke,
    SessionOpened, StartEnd,
};
use offsite_proto::stream::{Decoder, Encoder, End, Opcode, StreamKind};
use offsite_proto::text::{Big, Text};
use offsite_proto::window::{KeyWindow, ListEntry, Wanted};
use offsite_store::{Store, StoreError};
use offsite_transport::Outgoing;
use std::sync::Arc;

use crate::error::Trouble;
use crate::origin::{self, Outbound};
use crate::pairing::{Means, off};
use crate::protect::Protection;
use crate::readback::{ReadBack, trouble};
use crate::replicate::link::{Link, failure};

/// Bytes of records that are on their way at once: less than any target grants at the beginning.
const STEP_BYTES: u64 = 4 << 20;
/// Parts of the target's list that are read at one time; the rest is there the next time.
const PAGES_MAX: usize = 16;
/// How long one poke waits, and how many are sent.
const POKE_SECS: u32 = 30;
const POKES_MAX: u32 = 120;

/// What was healed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Healed {
    /// Records that the target has again.
    pub(crate) there: u64,
    /// Records that this source has again.
    pub(crate) here: u64,
    /// Records that neither can heal now.
    pub(crate) lost: u64,
}

/// What healing works with.
pub(crate) struct Healer {
    pub(crate) means: Arc<Means>,
    pub(crate) protection: Arc<Protection>,
    pub(crate) link: Arc<Link>,
    pub(crate) job: JobId,
}

impl Healer {
    /// Whether the target lists damage of an agent, or could not say.
    pub(crate) async fn is_damaged_there(&self, agent: AgentId) -> bool {
        let page = Paged::first(OfAgent { agent });
        let Ok(connection) = self.link.connection().await else { return true };
        let listed = connection.call::<ListDamaged>(&page, &()).await;
        listed.map_or(true, |listed| !listed.body.0.items.is_empty())
    }

    /// Heals what can be healed of an agent, at the target where it said that something is damaged.
    /// A failure of one way does not keep the other.
    pub(crate) async fn heal(
        &self,
        agent: AgentId,
        images: &[Outbound],
        is_damaged_there: bool,
    ) -> Healed {
        let mut healed = Healed::default();
        // First here: what comes back is there for the target as well, and the reverse.
        match self.heal_here(agent, images).await {
            Ok((here, lost)) => {
                healed.here = here;
                healed.lost = lost;
            }
            Err(trouble) => {
                tracing::error!(%agent, cause = trouble.message, "damage here is not healed");
            }
        }
        let there = match is_damaged_there {
            true => self.heal_there(agent, images).await,
            false => Ok((0, 0)),
        };
        match there {
            Ok((there, lost)) => {
                healed.there = there;
                healed.lost = healed.lost.saturating_add(lost);
            }
            // A target of an earlier release has no such list.
            Err(Failure::Refused(refusal)) if refusal.code == ErrorCode::NotImplemented => {}
            Err(failed) => {
                tracing::error!(%agent, cause = ?failed, "damage at the target is not healed");
            }
        }
        if healed.lost > 0 {
            tracing::error!(
                %agent,
                records = healed.lost,
                "records are damaged and no good copy was found"
            );
        }
        healed
    }

    async fn heal_there(&self, agent: AgentId, images: &[Outbound]) -> Result<(u64, u64), Failure> {
        let mut page = Paged::first(OfAgent { agent });
        let mut damaged: BTreeMap<ImageName, Vec<DamagedRecord>> = BTreeMap::new();
        for _ in 0..PAGES_MAX {
            let answer = self.link.connection().await?.call::<ListDamaged>(&page, &()).await;
            let Json(part) = answer.map_err(failure)?.body;
            for record in part.items {
                let name = (record.driver_volume_id.0, record.epoch_number);
                damaged.entry(name).or_default().push(record);
            }
            page.after = part.next;
            if page.after.is_none() {
                break;
            }
        }
        let (mut n_healed, mut n_lost) = (0_u64, 0_u64);
        for (name, records) in damaged {
            let n_records = records.len() as u64;
            let Some(image) = images.iter().find(|image| image.ours.name == name) else {
                n_lost = n_lost.saturating_add(n_records);
                continue;
            };
            let entries = self.at_hand(records).await.map_err(|cause| {
                tracing::error!(cause = cause.message, "this source cannot read its own store");
                Failure::Cut
            })?;
            let n_have = entries.len() as u64;
            n_lost = n_lost.saturating_add(n_records.saturating_sub(n_have));
            if n_have > 0 {
                self.send_image(image, entries).await?;
                tracing::info!(%agent, records = n_have, "the target was healed");
                n_healed = n_healed.saturating_add(n_have);
            }
        }
        Ok((n_healed, n_lost))
    }

    /// The records that this source can read, in order of their ordinals.
    async fn at_hand(&self, records: Vec<DamagedRecord>) -> Result<Vec<(u64, ListEntry)>, Trouble> {
        let protection = Arc::clone(&self.protection);
        off(&self.means, move |_| {
            let mut entries: BTreeMap<u64, ListEntry> = BTreeMap::new();
            for record in records {
                let entry = ListEntry::record(record.offset.0, record.length, record.key.0);
                let read = origin::records(
                    &protection.store,
                    protection.tenant,
                    std::slice::from_ref(&entry),
                );
                let is_it = read.is_ok_and(|read| {
                    read.first().is_some_and(|bytes| bytes.len() == record.length as usize)
                });
                if is_it {
                    entries.insert(record.ordinal.0, entry);
                }
            }
            Ok(entries.into_iter().collect())
        })
        .await
    }

    /// One heal session: what is wanted of these entries is sent, and kept there.
    async fn send_image(
        &self,
        image: &Outbound,
        entries: Vec<(u64, ListEntry)>,
    ) -> Result<(), Failure> {
        let mut token = [0; 16];
        self.means.luck.fill(&mut token);
        let open = OpenSession {
            job_id: Text(self.job),
            image_type: ImageType::Heal,
            record_count: Big(entries.len() as u64),
            commit_token: Text(CommitToken::from_bytes(token)),
            ..image.open.clone()
        };
        let mut path = None;
        for step in steps(entries) {
            // Each opening begins to count credit anew.
            let opened = self.open(&open).await?;
            let session =
                InSession { agent: open.agent_id.0, job: self.job, session: opened.session_id.0 };
            path = Some(session);
            let n_windows = opened.windows_in_flight.max(1) as usize;
            let mut wanted = Vec::new();
            for windows in windows(&step, opened.window_keys).chunks(n_windows) {
                wanted.extend(self.offer(&session, windows).await?);
            }
            self.send(&session, wanted).await?;
        }
        let Some(session) = path else { return Ok(()) };
        let connection = self.link.connection().await?;
        let end = EndSession { session, commit: true };
        connection.call::<StartEnd>(&end, &()).await.map_err(failure)?;
        for _ in 0..POKES_MAX {
            let poke = Poke { session, wait_secs: POKE_SECS };
            let answer = connection.call::<AskCommitted>(&poke, &()).await.map_err(failure)?;
            if answer.body.0 {
                return Ok(());
            }
        }
        Err(Failure::Cut)
    }

    async fn open(&self, open: &OpenSession) -> Result<SessionOpened, Failure> {
        let connection = self.link.connection().await?;
        let answer = connection.call::<Open>(&(), &Json(open.clone())).await.map_err(failure)?;
        Ok(answer.body.0)
    }

    /// Row 5 with these windows; what is wanted of them.
    async fn offer(
        &self,
        session: &InSession,
        windows: &[Vec<(u64, ListEntry)>],
    ) -> Result<Vec<(u64, ListEntry)>, Failure> {
        let mut encoder = Encoder::new(StreamKind::Keys, session.session);
        let mut end = End { items: windows.len() as u64, bytes: 0 };
        for (window, entries) in (0_u32..).zip(windows) {
            let first_ordinal = entries.first().map_or(0, |(ordinal, _)| *ordinal);
            let entries: Vec<ListEntry> = entries.iter().map(|(_, entry)| *entry).collect();
            let payload = KeyWindow { window, first_ordinal, entries: &entries }.write();
            end.bytes = end.bytes.saturating_add(payload.len() as u64);
            encoder.frame(0, Opcode::Keys, &[&payload]).map_err(ours)?;
        }
        encoder.frame(0, Opcode::End, &[&end.write()]).map_err(ours)?;
        let mut wanted = Vec::new();
        self.exchange(&rows::R05, session, encoder, StreamKind::Wanted, |opcode, payload| {
            if opcode == Opcode::Wanted {
                let answer = Wanted::read(payload).map_err(ours)?;
                let window = usize::try_from(answer.window).ok().and_then(|at| windows.get(at));
                let window = window.map(Vec::as_slice).unwrap_or_default();
                wanted.extend(
                    window.iter().zip(answer.iter()).filter(|(_, is)| *is).map(|(e, _)| *e),
                );
            }
            Ok(())
        })
        .await?;
        Ok(wanted)
    }

    /// Row 6 with these records.
    async fn send(
        &self,
        session: &InSession,
        wanted: Vec<(u64, ListEntry)>,
    ) -> Result<(), Failure> {
        if wanted.is_empty() {
            return Ok(());
        }
        let (protection, id) = (Arc::clone(&self.protection), session.session);
        let made = off(&self.means, move |_| encode(&protection, id, &wanted)).await;
        let encoder = made.map_err(|cause| {
            tracing::error!(cause = cause.message, "this source cannot read its own store");
            Failure::Cut
        })?;
        self.exchange(&rows::R06, session, encoder, StreamKind::Receipt, |_, _| Ok(())).await
    }

    /// One stream up and one down; whole when the target said END.
    async fn exchange(
        &self,
        row: &Row,
        session: &InSession,
        mut up: Encoder,
        down: StreamKind,
        mut take: impl FnMut(Opcode, &[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut values = Values::new();
        session.write(&mut values);
        let kind = if down == StreamKind::Wanted { StreamKind::Keys } else { StreamKind::Records };
        let media = HeaderValue::from_static(kind.media_type());
        let up = up.take();
        tokio::time::sleep(self.link.pace(up.len() as u64)).await;
        let body = Outgoing::whole(up);
        let connection = self.link.connection().await?;
        let answer = connection.stream(row, &values, media, body, u64::MAX).await;
        let mut answer = answer.map_err(failure)?;
        let mut decoder = Decoder::new(down, session.session);
        loop {
            let piece = answer.body.next().await.map_err(|_| Failure::Cut)?;
            let Some(piece) = piece else { return Err(Failure::Cut) };
            decoder.push(&piece);
            while let Some(frame) = decoder.next_frame().map_err(ours)? {
                match frame.opcode {
                    Opcode::End => return Ok(()),
                    Opcode::Fail => {
                        let error = from_slice::<ErrorBody>(&frame.payload);
                        return Err(Failure::Refused(error.map_err(ours)?.error));
                    }
                    opcode => take(opcode, &frame.payload)?,
                }
            }
        }
    }

    async fn heal_here(&self, agent: AgentId, images: &[Outbound]) -> Result<(u64, u64), Trouble> {
        let (store, tenant) = (self.protection.store.clone(), self.protection.tenant);
        if !store.has_damage(tenant) {
            return Ok((0, 0));
        }
        let (mut n_healed, mut n_lost) = (0_u64, 0_u64);
        for image in images {
            let missing = {
                let (store, image) = (store.clone(), image.clone());
                off(&self.means, move |_| missing(&store, tenant, &image)).await?
            };
            if missing.is_empty() {
                continue;
            }
            let from = ReadBack {
                link: Arc::clone(&self.link),
                agent,
                point: image.point,
                volume: image.open.volume_driver_id.0,
                list: WhichList::Image,
            };
            for step in steps(missing) {
                let (healed, lost) = self.fetch(&from, step).await?;
                n_healed = n_healed.saturating_add(healed);
                n_lost = n_lost.saturating_add(lost);
            }
        }
        if n_healed > 0 {
            tracing::info!(%agent, records = n_healed, "this source was healed by the target");
        }
        Ok((n_healed, n_lost))
    }

    /// Fetches these records and stores them again; how many, and how many the target lacks too.
    async fn fetch(
        &self,
        from: &ReadBack,
        step: Vec<(u64, ListEntry)>,
    ) -> Result<(u64, u64), Trouble> {
        let mut asked: BTreeMap<u64, ListEntry> = step.into_iter().collect();
        let n_asked = asked.len() as u64;
        let brought = loop {
            let failed = match from.records(&self.means, &asked).await {
                Ok(brought) => break brought,
                Err(failed) => failed,
            };
            // What the target has no good copy of either is left out, and the rest is asked again.
            let damaged = match &failed {
                Failure::Refused(refusal) => ordinals_of(refusal),
                Failure::Cut => Vec::new(),
            };
            let n_before = asked.len();
            asked.retain(|ordinal, _| !damaged.contains(ordinal));
            if asked.len() == n_before {
                return Err(trouble(failed, "fetching good copies of damaged records"));
            }
        };
        let (store, tenant) = (self.protection.store.clone(), self.protection.tenant);
        off(&self.means, move |_| {
            let mut session = store.session(tenant)?;
            for (_, group) in &brought {
                session.append(group)?;
            }
            session.keep()?;
            Ok(())
        })
        .await?;
        let n_healed = asked.len() as u64;
        Ok((n_healed, n_asked.saturating_sub(n_healed)))
    }
}

fn ours(cause: impl std::fmt::Display) -> Failure {
    let sentence = format!("the target's stream breaks the protocol: {cause}");
    Failure::Refused(Refusal::new(ErrorCode::ContentInvalid, sentence))
}

fn ordinals_of(refusal: &Refusal) -> Vec<u64> {
    let named = refusal.detail.as_ref().and_then(|facts| facts.get("ordinals"));
    let named = named.and_then(|ordinals| ordinals.as_array());
    named.into_iter().flatten().filter_map(|ordinal| ordinal.as_u64()).collect()
}

/// The entries of an image's own list that this store has no good copy of; each key once.
fn missing(
    store: &Store,
    tenant: offsite_model::TenantId,
    image: &Outbound,
) -> Result<Vec<(u64, ListEntry)>, Trouble> {
    let mut missing = Vec::new();
    let mut seen: HashMap<Key, ()> = HashMap::new();
    let volume = image.open.volume_driver_id.0;
    let walked =
        store.missing(tenant, image.point, volume, image.parent_point(), &mut |ordinal, entry| {
            if seen.insert(entry.key, ()).is_none() {
                let wire = ListEntry::record(entry.offset, entry.length, entry.key);
                missing.push((ordinal, wire));
            }
        });
    match walked {
        Ok(()) => Ok(missing),
        // Its list itself is damaged; verify says so.
        Err(StoreError::Damaged(_)) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Cuts entries into steps of a few MiB.
fn steps(entries: Vec<(u64, ListEntry)>) -> Vec<Vec<(u64, ListEntry)>> {
    let mut steps: Vec<Vec<(u64, ListEntry)>> = Vec::new();
    let mut bytes = 0_u64;
    for (ordinal, entry) in entries {
        bytes = bytes.saturating_add(entry.bytes().into());
        match steps.last_mut() {
            Some(step) if bytes <= STEP_BYTES => step.push((ordinal, entry)),
            _ => {
                bytes = entry.bytes().into();
                steps.push(vec![(ordinal, entry)]);
            }
        }
    }
    steps
}

/// Cuts entries into windows of consecutive ordinals.
fn windows(entries: &[(u64, ListEntry)], keys_max: u32) -> Vec<Vec<(u64, ListEntry)>> {
    let keys_max = keys_max.clamp(1, WINDOW_KEYS_MAX) as usize;
    let mut windows: Vec<Vec<(u64, ListEntry)>> = Vec::new();
    for (ordinal, entry) in entries {
        match windows.last_mut() {
            Some(window)
                if window.len() < keys_max
                    && window.last().map(|(last, _)| last.saturating_add(1)) == Some(*ordinal) =>
            {
                window.push((*ordinal, *entry));
            }
            _ => windows.push(vec![(*ordinal, *entry)]),
        }
    }
    windows
}

/// The stream of row 6 with these records.
fn encode(
    protection: &Protection,
    session: SessionId,
    wanted: &[(u64, ListEntry)],
) -> Result<Encoder, Trouble> {
    let mut encoder = Encoder::new(StreamKind::Records, session);
    let mut end = End { items: wanted.len() as u64, bytes: 0 };
    let failed = |error: &dyn std::fmt::Display| Trouble::us(format!("cannot write: {error}"));
    for group in origin::groups(&protection.store, protection.tenant, wanted)? {
        end.bytes = end.bytes.saturating_add(group.len() as u64);
        encoder.frame(0, Opcode::Records, &[&group]).map_err(|error| failed(&error))?;
    }
    encoder.frame(0, Opcode::End, &[&end.write()]).map_err(|error| failed(&error))?;
    Ok(encoder)
}
