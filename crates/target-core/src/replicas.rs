//! What sources replicate to this target: sessions, staged records, committed images.
//!
//! ```text
//!  routes ─► Replicas::open ─► Live (machine, the store's draft) ─► store
//!            rows 5 and 6 ─► streams ─► Live::step
//! ```
//!
//! Every look is through an [`Owner`]: what is another's is not there.
//!
//! **Absent:** seed drives, encrypted agents: sessions that ask for them are refused.

mod dismissed;
mod draft;
mod heal;
mod images;
mod leases;
mod live;
mod novelty;
mod orphans;
#[cfg(test)]
mod plant;
mod pool;
mod quotas;
mod shown;
mod streams;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use offsite_exchange::replication::target::{
    CommitFault, Input, Known, Opening, ParentStanding, Rules, Session, Spec, StageFault, Standing,
    decide,
};
use offsite_model::{AgentId, Digest, JobId, Key, SessionId, Span};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::limits::FRAME_BYTES_MAX;
use offsite_proto::session::{HASH_ALGORITHM, InSession, OpenSession, SessionOpened};
use offsite_proto::text::{Big, Text, Time};
use offsite_store::catalog::{Catalog, Transactions, TypedRows, TypedRowsMut};
use offsite_store::group::Form;
use offsite_store::{Draft, Store, StoreError};
use offsite_transport::Mutations;
use tokio::sync::Semaphore;

pub(crate) use images::unreadable;
pub use images::{Held, ImageName, Owner};
pub use live::Live;
pub(crate) use orphans::Orphan;
pub use shown::{Mirrors, PointShown};
pub(crate) use streams::Stream;

use self::images::{
    IMAGES, ImageRow, Outcome, SESSIONS, SessionRow, announce, committed, is_purged,
};
use self::live::{commit_fault, lock};
use self::pool::Pool;
use self::quotas::Quotas;
use crate::World;
use crate::failure::Failure;

/// A session that did something so long ago is still at work.
const STIRRED_FOR: Span = Span::from_millis(500);
/// Sessions that are remembered, ended ones included.
const SESSIONS_MAX: usize = 4_096;
/// Sessions of one source that may be at work at once.
const LIVE_PER_SOURCE_MAX: usize = 64;
/// Sessions that may be at work at once.
const LIVE_MAX: usize = 256;
/// Bytes of groups in memory, over all sessions.
pub(crate) const BUDGET_BYTES: usize = 64 << 20;

#[derive(Default)]
struct Sessions {
    by_id: BTreeMap<SessionId, Arc<Live>>,
    by_image: BTreeMap<ImageName, SessionId>,
    order: VecDeque<SessionId>,
}

/// What sources replicate to this target.
pub struct Replicas {
    pub(crate) store: Store,
    world: World,
    catalog: Arc<dyn Catalog>,
    rules: Rules,
    mutations: Mutations,
    /// How many threads may work at once.
    pub(crate) n_threads: usize,
    /// Threads for look-ups, decoding and appending.
    pub(crate) pool: Arc<Pool>,
    /// Bytes of groups that may be in memory.
    pub(crate) budget: Arc<Semaphore>,
    sessions: Mutex<Sessions>,
    /// Held while an opening is judged and made.
    opening: Mutex<()>,
    /// Held while images that waited for their parents are committed.
    adopting: Mutex<()>,
    /// When drafts without a session were counted last, by the uptime.
    counted_at: Mutex<Option<Span>>,
    /// When a session last did something, in microseconds of the uptime.
    stirred_micros: AtomicU64,
    pub(crate) quotas: Quotas,
    pub(crate) mirrors: Mirrors,
}

/// What row 56 is answered: the session, and whether it is a new one.
pub struct Opened {
    /// The body.
    pub answer: SessionOpened,
    /// Whether the status is 201.
    pub is_new: bool,
}

/// What is known of the caller's agent when a session is opened.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Whose images.
    pub owner: Owner,
    /// Whether the agent is an accepted one of his.
    pub is_agent_known: bool,
    /// What the acceptance allows him to store, in bytes.
    pub quota_bytes: Option<u64>,
}

impl Replicas {
    /// Over an open store.
    #[must_use]
    pub fn over(
        store: Store,
        world: World,
        catalog: Arc<dyn Catalog>,
        rules: Rules,
        mutations: Mutations,
        n_threads: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            quotas: Quotas::new(store.clone(), Arc::clone(&catalog)),
            store,
            world,
            catalog,
            rules,
            mutations,
            n_threads,
            pool: Pool::new(n_threads),
            budget: Arc::new(Semaphore::new(BUDGET_BYTES)),
            sessions: Mutex::default(),
            opening: Mutex::new(()),
            adopting: Mutex::new(()),
            counted_at: Mutex::new(None),
            stirred_micros: AtomicU64::new(0),
            mirrors: Mirrors::default(),
        })
    }

    /// A session does something.
    fn stir(&self) {
        self.stirred_micros.store(self.world.clock.uptime().as_micros(), Ordering::Relaxed);
    }

    /// Whether some session did something a moment ago.
    pub(crate) fn is_at_work(&self) -> bool {
        let last = self.stirred_micros.load(Ordering::Relaxed);
        let now = self.world.clock.uptime().as_micros();
        last > 0 && now.saturating_sub(last) < STIRRED_FOR.as_micros()
    }

    /// Ends what a crash left half-way: drafts of images that are committed, and images whose
    /// parent was committed and that still wait for it. Blocks.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn tidy_up(&self) -> Result<(), StoreError> {
        for left in self.store.drafts()? {
            let open = draft::announced(&self.store, left.tenant, left.session)?;
            let is_committed = |open| committed(&self.store, left.tenant, open);
            if open.as_ref().map(is_committed).transpose()?.flatten().is_some() {
                self.store.end_draft(left.tenant, left.session)?;
            }
        }
        self.adopt_all();
        Ok(())
    }

    /// Row 56. Blocks.
    ///
    /// # Errors
    /// The refusal to answer.
    pub fn open_session(
        self: &Arc<Self>,
        caller: Caller,
        open: OpenSession,
    ) -> Result<Opened, Refusal> {
        let wish = Spec::check(open)?;
        let later = |what| Err(Refusal::new(ErrorCode::NotImplemented, what));
        if wish.is_encrypted() {
            return later("encrypted agents are not part of this build");
        }
        let open = wish.open();
        let name = ImageName {
            owner: caller.owner,
            agent: open.agent_id.0,
            volume: open.volume_driver_id.0,
            epoch: open.epoch_number,
        };
        self.quotas.set(&caller.owner, caller.quota_bytes);
        let _alone = lock(&self.opening);
        let row = if caller.is_agent_known { self.announced(&name)? } else { None };
        let have = match &row {
            Some(row) => self.committed(&name, row)?,
            None => None,
        };
        let have = match &row {
            Some(row) if have.is_none() && !wish.is_heal() => self.waiting(&name, row, &wish)?,
            _ => have,
        };
        // What was committed once and then purged by retention: a repeat gets the first answer.
        let have = match &row {
            Some(row)
                if have.is_none()
                    && !wish.is_heal()
                    && (is_purged(&self.store, name.owner.tenant, row)?
                        || self.is_dismissed_and_gone(&name)?) =>
            {
                let is_it = Spec::check(row.clone()).is_ok_and(|spec| spec.is_same_image(&wish));
                is_it.then(|| wish.digest())
            }
            _ => have,
        };
        // Each healing offers what is damaged then: an older one that was left open is no obstacle.
        let is_of_wish = |live: &Arc<Live>| {
            let is_same = |machine: &Session| machine.spec().is_same_image(&wish);
            !wish.is_heal() || live.look(is_same)
        };
        let session = self.session_of(&name).filter(is_of_wish);
        let draft = if caller.is_agent_known { self.drafted(&name)? } else { None };
        let parent = match open.previous_epoch_number {
            Some(epoch) if caller.is_agent_known => self.parent(&ImageName { epoch, ..name })?,
            _ => ParentStanding::Absent,
        };
        let opening = {
            let machine = session.as_ref().map(|live| live.look(Clone::clone));
            let standing = Standing {
                is_agent_known: caller.is_agent_known,
                is_paused: false,
                has_space: self.quotas.left(&caller.owner)?.is_none_or(|left| left > 0),
                is_available: !self.store.is_poisoned(),
                parent,
                committed: have,
                session: machine.as_ref(),
                draft: draft.as_ref(),
            };
            decide(&wish, &standing)?
        };
        self.make(name, wish, opening, session)
    }

    fn make(
        self: &Arc<Self>,
        name: ImageName,
        wish: Spec,
        opening: Opening,
        before: Option<Arc<Live>>,
    ) -> Result<Opened, Refusal> {
        let (at, job) = (self.world.clock.uptime(), wish.open().job_id.0);
        let (live, is_new, is_resumed) = match (opening, before) {
            (Opening::Live, Some(live)) => {
                live.set_job(job);
                live.step(self, Input::Reopened, None);
                (live, false, true)
            }
            (Opening::Live, None) => return Err(internal()),
            (Opening::Committed, _) => {
                let id = SessionId::random(&*self.world.luck);
                // What is here stays announced as it came.
                self.remember_session(&name, job, id)?;
                let machine = Session::committed(id, wish, self.rules, at);
                (Live::start(self, name, job, machine, None), false, true)
            }
            (Opening::FromDraft | Opening::Fresh, before) => {
                self.check_room(&name.owner)?;
                let id = SessionId::random(&*self.world.luck);
                drop(before.and_then(|live| lock(&live.draft).take()));
                let resumed = match opening {
                    Opening::FromDraft => self.restore(&name, id, &wish)?,
                    _ => None,
                };
                let is_resumed = resumed.is_some();
                let (machine, draft) = match resumed {
                    Some(resumed) => resumed,
                    None => {
                        let machine = Session::new(id, wish.clone(), self.rules, at);
                        let begun = draft::begin(&self.store, &name, wish.open());
                        (machine, begun.map_err(|error| unreadable(&error))?)
                    }
                };
                // What was announced of an image stays when it is healed.
                if !wish.is_heal() {
                    self.announce(&name, &wish, id)?;
                }
                let live = Live::start(self, name, job, machine, Some(draft));
                (live, true, is_resumed)
            }
        };
        self.remember(&live);
        let now = self.world.clock.now();
        let answer = live.look(|machine| {
            let left = machine.expires_at().as_micros().saturating_sub(at.as_micros());
            let left = i64::try_from(left).unwrap_or(i64::MAX);
            let expires = now.as_micros().saturating_add(left);
            SessionOpened {
                session_id: Text(machine.id()),
                expires_at: Time(offsite_model::Timestamp::from_micros(expires)),
                hash_algorithm: HASH_ALGORITHM.to_owned(),
                max_frame_bytes: FRAME_BYTES_MAX,
                max_parallel_streams: self.rules.parallel_streams_max,
                window_keys: self.rules.window_keys,
                windows_in_flight: self.rules.windows_in_flight,
                initial_credit: Big(machine.granted_bytes()),
                resumed: is_resumed,
                state: machine.state(),
            }
        });
        Ok(Opened { answer, is_new })
    }

    /// A session that goes on from the draft; none where the draft is of no use.
    ///
    /// # Errors
    /// `repository_unavailable` where the disk does not let go on now: what was promised stays.
    fn restore(
        &self,
        name: &ImageName,
        id: SessionId,
        wish: &Spec,
    ) -> Result<Option<(Session, Draft)>, Refusal> {
        match self.try_restore(name, id, wish) {
            Ok(restored) => Ok(Some(restored)),
            Err(error) if draft::is_of_no_use(&error) => {
                tracing::warn!(%error, "a draft cannot be gone on from and is begun anew");
                Ok(None)
            }
            Err(error) => Err(unreadable(&error)),
        }
    }

    fn try_restore(
        &self,
        name: &ImageName,
        id: SessionId,
        wish: &Spec,
    ) -> Result<(Session, Draft), StoreError> {
        let mut draft = self.store.resume(name.owner.tenant, draft::id_of(name))?;
        let mut machine = Session::new(id, wish.clone(), self.rules, self.world.clock.uptime());
        draft::each(&mut draft, |draft, window| {
            let records = window.iter().map(|entry| entry.key).filter(|key| *key != Key::ZERO);
            let keys: Vec<Key> = records.collect();
            let mut found = draft.find_many(Form::Plain, &keys)?.into_iter();
            let known = window.iter().map(|entry| {
                let is_zero = entry.key == Key::ZERO;
                let is_held = is_zero || found.next().flatten().is_some();
                Known { entry: draft::offered(entry), is_held }
            });
            let known: Vec<Known> = known.collect();
            machine.restore(&known).map_err(|refusal| StoreError::BadList(refusal.message))
        })?;
        // What is said to be held rests on this.
        draft.promise()?;
        Ok((machine, draft))
    }

    /// What the draft of an image was begun for; none where there is no draft.
    fn drafted(&self, name: &ImageName) -> Result<Option<Spec>, Refusal> {
        let open = draft::announced(&self.store, name.owner.tenant, draft::id_of(name));
        let open = open.map_err(|error| unreadable(&error))?;
        Ok(open.and_then(|open| Spec::check(open).ok()))
    }

    fn check_room(&self, owner: &Owner) -> Result<(), Refusal> {
        let sessions = lock(&self.sessions);
        let at_work = |live: &&Arc<Live>| live.look(|machine| machine.stage().is_live());
        let n_all = sessions.by_id.values().filter(at_work).count();
        let own = sessions.by_id.values().filter(|live| live.name.owner == *owner);
        if n_all >= LIVE_MAX || own.filter(at_work).count() >= LIVE_PER_SOURCE_MAX {
            return Err(Refusal::new(ErrorCode::Busy, "too many sessions are open").after(30));
        }
        Ok(())
    }

    fn remember(&self, live: &Arc<Live>) {
        let mut sessions = lock(&self.sessions);
        sessions.by_image.insert(live.name, live.id);
        if sessions.by_id.insert(live.id, Arc::clone(live)).is_none() {
            sessions.order.push_back(live.id);
        }
        // The oldest that has ended gives way; what it was asked for is found in the catalog.
        let mut n_looked = 0;
        while sessions.by_id.len() > SESSIONS_MAX && n_looked < SESSIONS_MAX {
            n_looked += 1;
            let Some(id) = sessions.order.pop_front() else { return };
            let is_live = |live: &Arc<Live>| live.look(|machine| machine.stage().is_live());
            if sessions.by_id.get(&id).is_some_and(is_live) {
                sessions.order.push_back(id);
            } else if let Some(ended) = sessions.by_id.remove(&id)
                && sessions.by_image.get(&ended.name) == Some(&id)
            {
                sessions.by_image.remove(&ended.name);
            }
        }
    }

    /// Whether a session of this agent takes records now.
    pub(crate) fn is_agent_at_work(&self, owner: &Owner, agent: AgentId) -> bool {
        let sessions = lock(&self.sessions);
        let of_agent = |live: &&Arc<Live>| live.name.owner == *owner && live.name.agent == agent;
        let is_live = |live: &Arc<Live>| live.look(|machine| machine.stage().is_live());
        sessions.by_id.values().filter(of_agent).any(is_live)
    }

    fn session_of(&self, name: &ImageName) -> Option<Arc<Live>> {
        let sessions = lock(&self.sessions);
        sessions.by_id.get(sessions.by_image.get(name)?).cloned()
    }

    /// The session that a path names, if its three ids and the caller belong together. Blocks.
    ///
    /// # Errors
    /// `session_unknown`, whatever does not fit.
    pub fn session(
        self: &Arc<Self>,
        owner: &Owner,
        path: &InSession,
    ) -> Result<Arc<Live>, Refusal> {
        let live = self.session_by_id(owner, path.session)?;
        match live.name.agent == path.agent && live.job() == path.job {
            true => Ok(live),
            false => Err(session_unknown()),
        }
    }

    /// The session of row 52's path. Blocks.
    ///
    /// # Errors
    /// `session_unknown`, also for another's.
    pub fn session_by_id(
        self: &Arc<Self>,
        owner: &Owner,
        id: SessionId,
    ) -> Result<Arc<Live>, Refusal> {
        let known = lock(&self.sessions).by_id.get(&id).cloned();
        if let Some(live) = known {
            return Some(live).filter(|live| live.name.owner == *owner).ok_or_else(session_unknown);
        }
        // A commit is remembered across restarts; a session that was cut off is opened again.
        let row = self
            .catalog
            .read(|rows| rows.value::<SessionRow>(SESSIONS, &id.to_bytes()))
            .map_err(Failure::from)?;
        let row = row.ok_or_else(session_unknown)?;
        let name = row.name().filter(|name| name.owner == *owner).ok_or_else(session_unknown)?;
        let open = self.announced(&name)?.ok_or_else(session_unknown)?;
        if self.committed(&name, &open)?.is_none() && !self.is_landed(&name)? {
            return Err(session_unknown());
        }
        let spec = Spec::check(open).map_err(|_| session_unknown())?;
        let at = self.world.clock.uptime();
        let machine = Session::committed(id, spec, self.rules, at);
        let live = Live::start(self, name, row.job(), machine, None);
        lock(&self.sessions).by_id.insert(id, Arc::clone(&live));
        lock(&self.sessions).order.push_back(id);
        Ok(live)
    }

    /// Row 8: what of an image is held or durable, when its session is gone. Blocks.
    ///
    /// # Errors
    /// `image_unknown`, or `repository_unavailable`.
    pub fn transferred(self: &Arc<Self>, name: &ImageName) -> Result<Vec<u8>, Refusal> {
        let unknown = || Refusal::new(ErrorCode::ImageUnknown, "there is no such image");
        // Whoever opens a draft takes it over: not from a session that is being made.
        let _alone = lock(&self.opening);
        if let Some(live) = self.session_of(name)
            && live.look(|machine| machine.stage().leaves_draft())
        {
            return Ok(live.look(Session::bitmap));
        }
        if let Some(open) = self.announced(name)?
            && (self.committed(name, &open)?.is_some() || self.is_landed(name)?)
        {
            // It is here whole; there is nothing to resume.
            return Err(unknown());
        }
        let wish = self.drafted(name)?.ok_or_else(unknown)?;
        let id = SessionId::random(&*self.world.luck);
        let (machine, _) = self.restore(name, id, &wish)?.ok_or_else(unknown)?;
        Ok(machine.bitmap())
    }

    fn announce(&self, name: &ImageName, wish: &Spec, id: SessionId) -> Result<(), Refusal> {
        let announced = self.catalog.write(|rows| announce(rows, name, wish.open(), id));
        Ok(announced?)
    }

    fn remember_session(&self, name: &ImageName, job: JobId, id: SessionId) -> Result<(), Refusal> {
        let row = SessionRow::new(name, job);
        let written = self.catalog.write(|rows| {
            rows.put_value(SESSIONS, &id.to_bytes(), &row)?;
            Ok::<_, Failure>(())
        });
        Ok(written?)
    }

    /// The digest of an image that waits for its parent, if it is the one that is wished for.
    fn waiting(
        &self,
        name: &ImageName,
        row: &OpenSession,
        wish: &Spec,
    ) -> Result<Option<Digest>, Refusal> {
        if !self.is_landed(name)? {
            return Ok(None);
        }
        let is_it = Spec::check(row.clone()).is_ok_and(|spec| spec.is_same_image(wish));
        let other = "another content of this epoch waits here for its parent";
        is_it.then(|| Some(wish.digest())).ok_or(Refusal::new(ErrorCode::AlreadyExists, other))
    }

    fn announced(&self, name: &ImageName) -> Result<Option<OpenSession>, Refusal> {
        let row = self.catalog.read(|rows| rows.value::<ImageRow>(IMAGES, &name.key()));
        row.map_err(Failure::from)?.map(|row| row.open()).transpose()
    }

    fn committed(&self, name: &ImageName, open: &OpenSession) -> Result<Option<Digest>, Refusal> {
        committed(&self.store, name.owner.tenant, open).map_err(|error| unreadable(&error))
    }

    fn parent(&self, name: &ImageName) -> Result<ParentStanding, Refusal> {
        if let Some(open) = self.announced(name)?
            && let Some(digest) = self.committed(name, &open)?
        {
            return Ok(ParentStanding::Committed(digest));
        }
        if self.is_landed(name)?
            && let Some(open) = self.announced(name)?
        {
            return Ok(ParentStanding::Orphaned(open.image_digest.0));
        }
        let live = self
            .session_of(name)
            .map(|live| live.look(|machine| (machine.stage().clone(), machine.spec().digest())));
        use offsite_exchange::replication::target::Stage;
        Ok(match live {
            Some((Stage::Open | Stage::Transferring | Stage::Committing, digest)) => {
                ParentStanding::Transferring(digest)
            }
            _ => ParentStanding::Absent,
        })
    }

    /// Ends a session with what it was opened for; an image whose parent is not here is kept until
    /// that comes, where its source allows it. Blocks.
    fn commit(&self, live: &Live) -> Result<Outcome, CommitFault> {
        let (name, spec) = (&live.name, live.look(|machine| machine.spec().clone()));
        let open = spec.open();
        if spec.is_heal() {
            return self.keep_healed(live).map(|()| Outcome::Committed);
        }
        let unavailable = |_| CommitFault::Unavailable;
        if self.committed(name, open).map_err(unavailable)?.is_some() {
            return Ok(Outcome::Committed);
        }
        let parent = match open.previous_epoch_number {
            None => None,
            Some(epoch) => {
                let parent = ImageName { epoch, ..*name };
                let row = self.announced(&parent).map_err(unavailable)?;
                let here = row.as_ref().map(|row| self.committed(&parent, row)).transpose();
                if open.allow_orphan && here.map_err(unavailable)?.flatten().is_none() {
                    let landed = self.land(live)?;
                    self.note_novelty(name, live.staged_bytes(), open.size_bytes.0);
                    return Ok(landed);
                }
                Some(row.ok_or(CommitFault::BaseMissing)?.recovery_point_id.0)
            }
        };
        {
            let mut draft = lock(&live.draft);
            let draft = draft.as_mut().ok_or(CommitFault::LeaseLost)?;
            self.publish(draft, name, open, parent).map_err(|error| {
                tracing::warn!(session = %live.id, cause = %error, "cannot commit");
                commit_fault(&error)
            })?;
        }
        let point = open.recovery_point_id;
        tracing::info!(session = %live.id, agent = %name.agent, %point, records = spec.n_entries(),
            "image committed");
        self.note_novelty(name, live.staged_bytes(), open.size_bytes.0);
        Ok(Outcome::Committed)
    }

    /// The commit of a heal session. Blocks.
    fn keep_healed(&self, live: &Live) -> Result<(), CommitFault> {
        let fault = |error: StoreError| {
            tracing::warn!(session = %live.id, cause = %error, "cannot heal");
            commit_fault(&error)
        };
        let Live { name, .. } = live;
        let open = self.announced(name).map_err(|_| CommitFault::Unavailable)?;
        let open = open.ok_or(CommitFault::BaseMissing)?;
        let point = open.recovery_point_id.0;
        let image = self.store.image(name.owner.tenant, point, name.volume).map_err(fault)?;
        let mut draft = lock(&live.draft);
        let draft = draft.as_mut().ok_or(CommitFault::LeaseLost)?;
        let records = heal::keep(&self.store, &name.owner, &image, draft).map_err(fault)?;
        tracing::info!(session = %live.id, agent = %name.agent, records, "damaged records healed");
        Ok(())
    }

    fn stage_fault(&self, session: SessionId, error: &StoreError) -> StageFault {
        match error {
            StoreError::KeyCollision(key) => {
                tracing::error!(%session, %key, "another content under a stored key was refused");
                StageFault::KeyCollision(*key)
            }
            StoreError::NoSpace => StageFault::NoSpace,
            StoreError::Poisoned | StoreError::Fenced => StageFault::Unavailable,
            error => {
                tracing::error!(%session, cause = %error, "cannot store a group");
                StageFault::Broken
            }
        }
    }

    /// Lets time pass for sessions: barriers that are due, expiry.
    pub fn tick(self: &Arc<Self>) {
        let at = self.world.clock.uptime();
        let all: Vec<Arc<Live>> = lock(&self.sessions).by_id.values().cloned().collect();
        for live in all {
            if live.look(Session::wake_at).is_some_and(|wake| wake <= at) {
                live.step(self, Input::Tick, None);
            }
        }
    }
}

/// The one answer for a session that is not there or not the caller's.
fn session_unknown() -> Refusal {
    Refusal::new(ErrorCode::SessionUnknown, "there is no such session")
}

fn internal() -> Refusal {
    Refusal::new(ErrorCode::Internal, "the target failed; its log says more")
}

#[cfg(test)]
mod tests;
