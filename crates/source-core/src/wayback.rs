//! A volume of a recovery point, brought back from a target.
//!
//! ```text
//!  keys, page by page ─► windows ─► each fetched ahead, from here or from there ─► parts, in order
//! ```
//!
//! What this source still has under the same key is not asked for. At the end the digest of the
//! whole list is compared with the one that the target named at the beginning, and, where this
//! source still knows the point, with its own.
//!
//! **Absent:** files: whoever asked writes them with his own rights.

mod choose;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use offsite_exchange::replication::source::Failure;
use offsite_model::{AgentId, Digest, Key, ListDigest, PointId, TenantId, VolumeId};
use offsite_proto::admin::protection::OfContent;
use offsite_proto::catalog::{self, OfAgent, RecoveryPointSummary, VolumeImageSummary};
use offsite_proto::error::ErrorCode;
use offsite_proto::heal::WhichList;
use offsite_proto::json::Json;
use offsite_proto::page::Paged;
use offsite_proto::window::ListEntry;
use offsite_store::group::Form;
use offsite_store::{Store, StoreError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::choose::shown;
use crate::agents;
use crate::config::Settings;
use crate::error::{Blame, Trouble};
use crate::pairing::{Means, off};
use crate::progress::Progress;
use crate::protect::Protection;
use crate::readback::{ListHead, ReadBack, trouble};
use crate::replicate::link::{Link, failure};

/// Part of a volume as it came.
type Part = offsite_content::Part<Vec<u8>>;

/// Entries asked for at a time: three MiB of keys.
const PAGE_ENTRIES: u64 = 1 << 16;
/// Bytes of records that are fetched as one.
const WINDOW_BYTES: u64 = 8 << 20;
/// Windows that are fetched ahead of the writer.
const WINDOWS_AHEAD: usize = 3;
/// Parts of a list of points or images that are read before a target is taken for mad.
const PAGES_MAX: usize = 1_000;

/// A volume at a target, found and ready to be read.
pub(crate) struct Wayback {
    means: Arc<Means>,
    from: ReadBack,
    head: ListHead,
    store: Store,
    tenant: TenantId,
}

/// Finds a volume of a point at a target.
///
/// # Errors
/// The operator's: names; what the target refuses.
pub(crate) async fn open(
    means: &Arc<Means>,
    settings: &Settings,
    protection: &Protection,
    asked: &OfContent,
    target: &str,
) -> Result<Wayback, Trouble> {
    let (settings, named, agent) = (settings.clone(), target.to_owned(), asked.agent.clone());
    let found = off(means, move |means| {
        let link = Link::to(means, &settings, &named)?;
        let known = match agents::find(&means.memory, &agent) {
            Ok(row) => Some(row),
            Err(trouble) if trouble.code == ErrorCode::AgentUnknown => None,
            Err(trouble) => return Err(trouble),
        };
        Ok((Arc::new(link), known))
    });
    let (link, known) = found.await?;
    let doing = |failed| trouble(failed, "looking for the recovery point");
    let agent = match &known {
        Some(row) => row.agent_id(),
        None => agent_at_target(&link, &asked.agent).await?,
    };
    let points = points(&link, agent).await.map_err(doing)?;
    let images = images(&link, agent).await.map_err(doing)?;
    let own = known.iter().flat_map(|row| &row.volumes);
    let own = own.filter(|volume| volume.label == asked.volume);
    let own: Option<VolumeId> = own.map(crate::memory::VolumeRow::volume_id).next();
    let point = choose::point(&points, &images, own, asked)?;
    let volume = choose::volume(&images, point, own, &asked.volume)?;
    let from = ReadBack { link, agent, point, volume, list: WhichList::Volume };
    let head = from.head(means).await.map_err(|failed| trouble(failed, "reading the list"))?;
    let (store, tenant) = (protection.store.clone(), protection.tenant);
    let compared = {
        let store = store.clone();
        off(means, move |_| own_digest(&store, tenant, point, volume))
    };
    if compared.await?.is_some_and(|own| own != head.digest) {
        return Err(Trouble {
            blame: Blame::Peer,
            code: ErrorCode::HashMismatch,
            message: format!("the target has another volume under recovery point {point}"),
            hint: "restore it from this source: leave out --from".to_owned(),
        });
    }
    Ok(Wayback { means: Arc::clone(means), from, head, store, tenant })
}

/// The digest of the whole volume's list as this source knows it; none where it does not.
fn own_digest(
    store: &Store,
    tenant: TenantId,
    point: PointId,
    volume: VolumeId,
) -> Result<Option<Digest>, Trouble> {
    let walked = store.image(tenant, point, volume).and_then(|image| {
        let mut digest = ListDigest::new();
        for entry in image.list(0) {
            let entry = entry?;
            digest.entry(entry.offset, entry.length, &entry.key);
        }
        Ok(digest.finish())
    });
    match walked {
        Ok(digest) => Ok(Some(digest)),
        // What is lost or damaged here is why one asks there.
        Err(StoreError::PointUnknown(_) | StoreError::Damaged(_)) => Ok(None),
        Err(StoreError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

async fn points(link: &Link, agent: AgentId) -> Result<Vec<RecoveryPointSummary>, Failure> {
    let mut page = Paged::first(OfAgent { agent });
    let mut all = Vec::new();
    for _ in 0..PAGES_MAX {
        let answer = link.connection().await?.call::<catalog::ListPoints>(&page, &()).await;
        let Json(part) = answer.map_err(failure)?.body;
        all.extend(part.items);
        page.after = part.next;
        if page.after.is_none() {
            break;
        }
    }
    Ok(all)
}

async fn images(link: &Link, agent: AgentId) -> Result<Vec<VolumeImageSummary>, Failure> {
    let mut page = Paged::first(OfAgent { agent });
    let mut all = Vec::new();
    for _ in 0..PAGES_MAX {
        let answer = link.connection().await?.call::<catalog::ListImages>(&page, &()).await;
        let Json(part) = answer.map_err(failure)?.body;
        all.extend(part.items);
        page.after = part.next;
        if page.after.is_none() {
            break;
        }
    }
    Ok(all)
}

/// An agent that this source has forgotten, by the name or the id under which the target has it.
async fn agent_at_target(link: &Link, name: &str) -> Result<AgentId, Trouble> {
    let asked = async {
        let (page, connection) = (Paged::first(()), link.connection().await?);
        let answer = connection.call::<catalog::ListAgentsWithPoints>(&page, &()).await;
        Ok::<_, Failure>(answer.map_err(failure)?.body.0.items)
    };
    let agents =
        asked.await.map_err(|failed| trouble(failed, "looking for the agent at the target"))?;
    let id = name.parse::<AgentId>().ok();
    let mut named =
        agents.iter().filter(|agent| agent.display_name == name || Some(agent.agent_id.0) == id);
    match (named.next(), named.next()) {
        (Some(agent), None) => Ok(agent.agent_id.0),
        (Some(_), Some(_)) => Err(Trouble::operator(
            ErrorCode::BadRequest,
            format!("several agents at the target are called {}", shown(name)),
            "name it by its id",
        )),
        (None, _) => Err(Trouble::operator(
            ErrorCode::AgentUnknown,
            format!("neither this source nor the target knows an agent {}", shown(name)),
            "see the agents of this source with: offsite-source agents list",
        )),
    }
}

/// Windows that are being fetched, in their order; what nobody waits for any more is given up.
#[derive(Default)]
struct Ahead(VecDeque<JoinHandle<Result<Vec<Part>, Trouble>>>);

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Ahead {
    /// Hands on the oldest window.
    async fn hand_on(&mut self, parts: &mpsc::Sender<Part>) -> Result<(), Trouble> {
        let Some(oldest) = self.0.pop_front() else { return Ok(()) };
        let fetched =
            oldest.await.map_err(|error| Trouble::us(format!("fetching failed: {error}")))?;
        for part in fetched? {
            let gone = |_| {
                let message = "nobody reads the volume any more";
                Trouble::operator(ErrorCode::WrongState, message, "")
            };
            parts.send(part).await.map_err(gone)?;
        }
        Ok(())
    }
}

impl Wayback {
    /// The point.
    pub(crate) const fn point(&self) -> PointId {
        self.from.point
    }

    /// Size of the volume, as the target says.
    pub(crate) const fn bytes(&self) -> u64 {
        self.head.volume_bytes
    }

    /// Bytes that are not zeros, as the target says.
    pub(crate) const fn data_bytes(&self) -> u64 {
        self.head.record_bytes
    }

    /// Hands on the whole volume, in order.
    ///
    /// # Errors
    /// What the target refuses; a target that cannot be reached any more; an answer that is not
    /// what was asked for.
    pub(crate) async fn read(
        self: &Arc<Self>,
        progress: &Progress,
        parts: &mpsc::Sender<Part>,
    ) -> Result<(), Trouble> {
        let (mut digest, mut end) = (ListDigest::new(), 0_u64);
        let (mut ahead, mut ordinal) = (Ahead::default(), 0_u64);
        let mut window: Vec<(u64, ListEntry)> = Vec::new();
        let mut bytes = 0_u64;
        while ordinal < self.head.n_entries {
            progress.check()?;
            let until = ordinal.saturating_add(PAGE_ENTRIES).min(self.head.n_entries);
            let (head, entries) = self
                .from
                .keys(&self.means, ordinal..until)
                .await
                .map_err(|failed| trouble(failed, "reading the list"))?;
            if head != self.head {
                return Err(wrong("the list changed while it was read"));
            }
            for entry in entries {
                if entry.offset() != end {
                    return Err(wrong("the list has a gap"));
                }
                end = end.saturating_add(entry.bytes().into());
                digest.entry(entry.offset(), entry.bytes(), &entry.key());
                if !entry.is_zeros() {
                    bytes = bytes.saturating_add(entry.bytes().into());
                }
                window.push((ordinal, entry));
                ordinal = ordinal.saturating_add(1);
                if bytes >= WINDOW_BYTES || window.len() as u64 >= PAGE_ENTRIES {
                    self.fetch_ahead(&mut ahead, std::mem::take(&mut window));
                    bytes = 0;
                }
                while ahead.0.len() >= WINDOWS_AHEAD {
                    progress.check()?;
                    ahead.hand_on(parts).await?;
                }
            }
        }
        self.fetch_ahead(&mut ahead, window);
        while !ahead.0.is_empty() {
            progress.check()?;
            ahead.hand_on(parts).await?;
        }
        if end != self.head.volume_bytes {
            return Err(wrong("the list does not cover the volume"));
        }
        if digest.finish() != self.head.digest {
            return Err(wrong("the list has another digest than was announced"));
        }
        Ok(())
    }

    fn fetch_ahead(self: &Arc<Self>, ahead: &mut Ahead, window: Vec<(u64, ListEntry)>) {
        if !window.is_empty() {
            let this = Arc::clone(self);
            ahead.0.push_back(tokio::spawn(async move { this.fetch(window).await }));
        }
    }

    /// A window as it is written: from this store what is here, from the target the rest.
    async fn fetch(&self, window: Vec<(u64, ListEntry)>) -> Result<Vec<Part>, Trouble> {
        // Each key once, under its lowest ordinal.
        let mut wanted: BTreeMap<u64, ListEntry> = BTreeMap::new();
        let mut first: HashMap<Key, u32> = HashMap::new();
        for (ordinal, entry) in window.iter().filter(|(_, entry)| !entry.is_zeros()) {
            match first.insert(entry.key(), entry.bytes()) {
                None => drop(wanted.insert(*ordinal, *entry)),
                Some(bytes) if bytes == entry.bytes() => {}
                Some(_) => return Err(wrong("one key stands for records of different length")),
            }
        }
        let (store, tenant) = (self.store.clone(), self.tenant);
        let looked = off(&self.means, move |_| {
            let have = at_hand(&store, tenant, &wanted);
            wanted.retain(|_, entry| !have.contains_key(&entry.key()));
            Ok((wanted, have))
        });
        let (wanted, mut have) = looked.await?;
        let brought = self.from.records(&self.means, &wanted).await;
        let brought = brought.map_err(|failed| trouble(failed, "reading records back"))?;
        off(&self.means, move |_| {
            for (_, group) in brought {
                let decoded = group.decoded().map_err(|error| Trouble::us(error.to_string()))?;
                for (slot, row) in (0_u8..=255).zip(group.table()) {
                    let record = decoded.record(slot).unwrap_or_default();
                    have.insert(row.key, record.to_vec());
                }
            }
            assemble(&window, &have)
        })
        .await
    }
}

/// The records that this store has whole. What cannot be read here is asked for there.
fn at_hand(
    store: &Store,
    tenant: TenantId,
    wanted: &BTreeMap<u64, ListEntry>,
) -> HashMap<Key, Vec<u8>> {
    let mut have = HashMap::new();
    let keys: Vec<Key> = wanted.values().map(ListEntry::key).collect();
    let _reading = store.reading();
    let Ok(places) = store.find_many(tenant, Form::Plain, &keys) else { return have };
    let mut last = None;
    for (entry, place) in wanted.values().zip(places) {
        let Some(place) = place else { continue };
        let at = (place.segment, place.place);
        if last.as_ref().is_none_or(|(known, _)| *known != at) {
            let Ok(group) = store.group(tenant, place) else { continue };
            last = Some((at, group));
        }
        let Some((_, group)) = &last else { continue };
        let row = group.table().get(usize::from(place.slot));
        let is_it = row.is_some_and(|row| row.key == entry.key() && row.raw_bytes == entry.bytes());
        if let Some(record) = group.record(place.slot).filter(|_| is_it) {
            have.insert(entry.key(), record.to_vec());
        }
    }
    have
}

/// Puts a window together; runs of zeros stay apart.
fn assemble(
    window: &[(u64, ListEntry)],
    have: &HashMap<Key, Vec<u8>>,
) -> Result<Vec<Part>, Trouble> {
    let mut parts = Vec::new();
    for (_, entry) in window {
        if entry.is_zeros() {
            parts.push(Part::Zeros(entry.bytes().into()));
            continue;
        }
        let record = have.get(&entry.key()).ok_or_else(|| wrong("a record is missing"))?;
        match parts.last_mut() {
            Some(Part::Bytes(bytes)) => bytes.extend_from_slice(record),
            _ => parts.push(Part::Bytes(record.clone())),
        }
    }
    Ok(parts)
}

fn wrong(what: &str) -> Trouble {
    Trouble::peer(
        ErrorCode::ContentInvalid,
        format!("what the target sent cannot be trusted: {what}"),
        "nothing of it was kept; tell the target's operator",
    )
}
