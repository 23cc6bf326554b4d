//! One agent's replication: performs what the machine of `exchange` asks for over calls and
//! streams.
//!
//! [`Replicator::run`] drives a job; each image is a task of its own (`transfer`). The connection
//! of a pairing is kept open between jobs. Everything that may be cut may be begun again: the
//! target says what it has.
//!
//! **Absent:** what to send and in which order (the machine), schedules.

pub(crate) mod link;
mod shared;
mod speaker;
mod standby;
mod transfer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use offsite_exchange::replication::plan::{ImageName, Obstacle, Plan, Theirs};
use offsite_exchange::replication::source::{
    Answer, Ask, Event, Failure, Input, Job, JobEffect, JobOutcome, JobRules, Outcome, Preflight,
    Stop,
};
use offsite_model::{AgentId, ImageId, JobId, PointId, VolumeId};
use offsite_proto::admin::jobs::Job as JobShown;
use offsite_proto::admin::replication::Replicated;
use offsite_proto::catalog::{self, OfAgent, VolumeImageSummary};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::jobs::{JobState, Start, StartMirror, Sync, SyncMirror};
use offsite_proto::json::Json;
use offsite_proto::page::Paged;
use offsite_proto::pairing::{self, AgentPairingState, AgentSync, PairingState, PairingSync};
use offsite_proto::session::{OfImage, TransferredBlocksOfImage};
use offsite_proto::text::{Big, Text};
use offsite_proto::version::ProductVersion;
use offsite_store::catalog::{Table, Transactions, TypedRows, TypedRowsMut, Value};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::link::{Link, failure, runs_of};
use self::shared::Shared;
use crate::config::Settings;
use crate::error::Trouble;
use crate::heal::{Healed, Healer};
use crate::memory::AgentRow;
use crate::origin::{self, Outbound};
use crate::pairing::{Means, off};
use crate::paused::{self, Paused};
use crate::progress::Progress;
use crate::protect::Protection;

/// Parts of a list that are read before a target is taken for mad.
const PAGES_MAX: usize = 1_000;
/// How often the wish to stop is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a command waits for the target to hear that its job has ended.
const TOLD_WITHIN: Duration = Duration::from_millis(50);
/// The image that was on its way when a job ended badly, by agent.
const UNFINISHED: Table = Table::new("source_unfinished");

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct UnfinishedRow {
    volume: [u8; 16],
    epoch: u32,
}

impl Value for UnfinishedRow {
    const VERSION: u8 = 0;
    const BYTES_MAX: usize = 64;
}

/// Replicates agents.
pub struct Replicator {
    means: Arc<Means>,
    protection: Arc<Protection>,
    settings: Settings,
    links: Mutex<BTreeMap<String, Arc<Link>>>,
    paused: Arc<Paused>,
    busy: Mutex<BTreeSet<AgentId>>,
}

/// The right to replicate an agent: there is one per agent.
struct Claim<'a>(&'a Replicator, AgentId);

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// A transfer that was begun.
struct Begun {
    door: transfer::Door,
    name: ImageName,
}

impl Replicator {
    /// Over what the daemon works with.
    #[must_use]
    pub fn new(means: Arc<Means>, protection: Arc<Protection>, settings: Settings) -> Self {
        let (links, busy) = (Mutex::default(), Mutex::default());
        Self { means, protection, settings, links, paused: Arc::default(), busy }
    }

    /// How targets are reached.
    #[must_use]
    pub(crate) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Replicates an agent to a target, or to the newest it is paired with.
    ///
    /// # Errors
    /// What kept it from all that was planned, in words for the operator.
    pub async fn run(
        &self,
        job: JobId,
        agent: AgentRow,
        target: Option<String>,
        progress: Arc<Progress>,
    ) -> Result<Replicated, Trouble> {
        let id = agent.agent_id();
        if !self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(id) {
            return Err(Trouble::operator(
                ErrorCode::WrongState,
                format!("agent {} is being replicated already", agent.name),
                "wait until that job has ended",
            ));
        }
        let _claim = Claim(self, id);
        let began = self.means.clock.uptime();
        progress.stage("asking", None);
        let link = self.link(&agent, target).await?;
        let (asked, at) = (agent.clone(), link.target().to_owned());
        off(&self.means, move |means| paused::check(&means.memory, &asked, &at)).await?;
        let protection = Arc::clone(&self.protection);
        let read = off(&self.means, move |means| {
            let images = origin::images(&protection.store, protection.tenant, &means.memory, id)?;
            let unfinished: Option<UnfinishedRow> =
                means.memory.catalog().read(|rows| rows.value(UNFINISHED, &id.to_bytes()))?;
            Ok((images, unfinished))
        });
        let (images, unfinished) = read.await?;
        let unfinished = unfinished.map(|row| (VolumeId::from_bytes(row.volume), row.epoch));
        let shared = Shared::new(&self.means, &self.protection, link, job, &progress);
        let shared = Arc::new(shared);
        let healer = Healer {
            means: Arc::clone(&self.means),
            protection: Arc::clone(&self.protection),
            link: Arc::clone(&shared.link),
            job: shared.job,
        };
        // Asked while the job goes on, since over a long line the answer takes its time.
        let (driven, is_damaged) = tokio::join!(
            self.drive(&agent, &shared, &images, unfinished, &progress),
            healer.is_damaged_there(id),
        );
        let (mut outcome, mut plan) = driven?;
        let stranded = stranded(&plan, &images);
        let (mut images, mut sent_points) = (images, BTreeSet::new());
        if !stranded.is_empty() && outcome == JobOutcome::Succeeded {
            let records = stranded.len();
            tracing::info!(agent = %id, records, "images without their parent are sent anew");
            let protection = Arc::clone(&self.protection);
            let read = off(&self.means, move |means| {
                let (store, tenant, memory) = (&protection.store, protection.tenant, &means.memory);
                origin::announce_anew(store, tenant, memory, id, &stranded)?;
                origin::images(store, tenant, memory, id)
            });
            sent_points.extend(points_of(&plan, &images));
            images = read.await?;
            (outcome, plan) = self.drive(&agent, &shared, &images, None, &progress).await?;
        }
        let told = tokio::spawn(mirror_end(Arc::clone(&shared), outcome.clone()));
        let healed = match &outcome {
            JobOutcome::Succeeded | JobOutcome::Partly(_) => {
                healer.heal(id, &images, is_damaged).await
            }
            JobOutcome::NotStarted(_) | JobOutcome::Stopped(_) => Healed::default(),
        };
        // A target that is near has heard of it before the command ends; nobody waits for a far
        // one.
        tokio::time::timeout(TOLD_WITHIN, told).await.ok();
        let micros = self.means.clock.uptime().as_micros().saturating_sub(began.as_micros());
        if matches!(outcome, JobOutcome::Stopped(_)) && self.paused.stops(id, shared.link.target())
        {
            return Err(paused::refusal(&agent, shared.link.target()));
        }
        check(&agent, &outcome)?;
        sent_points.extend(points_of(&plan, &images));
        Ok(Replicated {
            job_id: Text(job),
            points: sent_points.len() as u64,
            records_offered: Big(shared.n_offered()),
            records_sent: Big(shared.records_sent.load(Ordering::Relaxed)),
            wire_bytes_out: Big(shared.wire_out.load(Ordering::Relaxed)),
            wire_bytes_in: Big(shared.wire_in.load(Ordering::Relaxed)),
            seconds: micros as f64 / 1e6,
            records_healed: Big(healed.there),
            records_regained: Big(healed.here),
        })
    }

    /// Stops an agent's replication to a target, or to the newest it is paired with, until it is
    /// resumed. A job that runs stops at its next safe point.
    ///
    /// # Errors
    /// `wrong_state` without such a pairing; the disk's.
    pub async fn pause(
        &self,
        agent: AgentRow,
        target: Option<String>,
    ) -> Result<JobShown, Trouble> {
        let link = self.link(&agent, target).await?;
        let (job, now) = (JobId::random(&*self.means.luck), self.means.clock.now());
        let paused = Arc::clone(&self.paused);
        off(&self.means, move |means| {
            Ok(paused.pause(&means.memory, &agent, link.target(), job, now)?)
        })
        .await
    }

    /// Ends what [`Replicator::pause`] began: for one target, named as the pairing names it, or for
    /// all; which pauses there were.
    ///
    /// # Errors
    /// The disk's.
    pub async fn resume(
        &self,
        agent: AgentId,
        target: Option<String>,
    ) -> Result<Vec<JobShown>, Trouble> {
        let paused = Arc::clone(&self.paused);
        off(&self.means, move |means| Ok(paused.resume(&means.memory, agent, target.as_deref())?))
            .await
    }

    /// The way to the target, kept open between jobs.
    async fn link(&self, agent: &AgentRow, target: Option<String>) -> Result<Arc<Link>, Trouble> {
        let (id, settings) = (agent.agent_id(), self.settings.clone());
        let name = agent.name.clone();
        let found = off(&self.means, move |means| {
            Link::find(means, &settings, id, &name, target.as_deref())
        });
        Ok(self.keep(found.await?))
    }

    /// The link that is kept already, if it leads to the same target with the same keys.
    fn keep(&self, found: Link) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = links.get(found.target()).filter(|kept| kept.is_same(&found)).cloned();
        let link = kept.unwrap_or_else(|| Arc::new(found));
        links.insert(link.target().to_owned(), Arc::clone(&link));
        link
    }

    async fn drive(
        &self,
        agent: &AgentRow,
        shared: &Arc<Shared>,
        images: &[Outbound],
        unfinished: Option<ImageName>,
        progress: &Progress,
    ) -> Result<(JobOutcome, Plan), Trouble> {
        let ours = images.iter().map(|image| image.ours).collect();
        let mut job = Job::new(Preflight { ours, unfinished }, JobRules::default());
        let (door, mut events) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        let mut begun: BTreeMap<usize, Begun> = BTreeMap::new();
        let mut is_stopping = false;
        let mut effects = VecDeque::from(job.step(Event::Start));
        loop {
            while let Some(effect) = effects.pop_front() {
                match effect {
                    JobEffect::Ask(question) => {
                        let (shared, door) = (Arc::clone(shared), door.clone());
                        let (id, bytes) = (agent.agent_id(), agent.logical_bytes());
                        tasks.spawn(async move {
                            let answer = ask(&shared, id, bytes, question).await;
                            door.send(Event::Answered(question, answer)).ok();
                        });
                    }
                    JobEffect::Planned(plan) => {
                        let total = plan.work.iter().filter_map(|work| images.get(work.image));
                        let total = total.fold(0_u64, |sum, image| {
                            let bytes = u64::from(image.open.record_size);
                            sum.saturating_add(image.open.record_count.0.saturating_mul(bytes))
                        });
                        progress.set_total(total);
                        progress.stage("sending", None);
                        tasks.spawn(Arc::clone(&shared.link).prepare(total));
                        for (index, obstacle) in &plan.left_out {
                            let image = images.get(*index).map(|image| image.open.image_id);
                            tracing::warn!(?image, ?obstacle, "an image is not sent");
                        }
                    }
                    JobEffect::Begin { index, work, known } => {
                        let Some(image) = images.get(work.image) else {
                            return Err(Trouble::us("the plan names an image that there is not"));
                        };
                        self.remember(agent.agent_id(), Some(image.ours.name)).await?;
                        let mut image = image.clone();
                        image.open.allow_orphan = work.allow_orphan;
                        image.open.job_id = Text(shared.job);
                        let name = image.ours.name;
                        let transfer = transfer::begin(shared, index, image, known, door.clone());
                        let (at, run) = transfer;
                        tasks.spawn(run);
                        begun.insert(index, Begun { door: at, name });
                    }
                    JobEffect::MayCommit(index) => tell(&begun, index, Input::MayCommit),
                    JobEffect::StopTransfer(index, stop) => tell(&begun, index, Input::Stop(stop)),
                    JobEffect::End(outcome) => {
                        let plan = job.plan().clone();
                        let left = match &outcome {
                            JobOutcome::Succeeded => Some(None),
                            JobOutcome::Partly(failed) => {
                                let first = failed.first().and_then(|(index, _)| begun.get(index));
                                first.map(|begun| Some(begun.name))
                            }
                            JobOutcome::Stopped(_) | JobOutcome::NotStarted(_) => None,
                        };
                        if let Some(left) = left {
                            self.remember(agent.agent_id(), left).await?;
                        }
                        return Ok((outcome, plan));
                    }
                }
            }
            tokio::select! {
                Some(event) = events.recv() => effects.extend(job.step(event)),
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {
                    let is_paused = self.paused.stops(agent.agent_id(), shared.link.target());
                    if (is_paused || progress.check().is_err()) && !is_stopping {
                        is_stopping = true;
                        effects.extend(job.step(Event::Stop(Stop::Pause)));
                    }
                }
            }
        }
    }

    /// Remembers the image that is on its way, for the next job to go on with.
    async fn remember(&self, agent: AgentId, name: Option<ImageName>) -> Result<(), Trouble> {
        off(&self.means, move |means| {
            Ok(means.memory.catalog().write(|rows| match name {
                Some((volume, epoch)) => {
                    let row = UnfinishedRow { volume: volume.to_bytes(), epoch };
                    rows.put_value(UNFINISHED, &agent.to_bytes(), &row)
                }
                None => rows.remove(UNFINISHED, &agent.to_bytes()).map(|_| ()),
            })?)
        })
        .await
    }
}

/// Points of which the plan sends something.
fn points_of(plan: &Plan, images: &[Outbound]) -> Vec<PointId> {
    let sent = plan.work.iter().filter_map(|work| images.get(work.image));
    sent.map(|image| image.point).collect()
}

/// Images that neither side has the parent of: a point between was deleted before it was sent.
fn stranded(plan: &Plan, images: &[Outbound]) -> Vec<ImageId> {
    let left = plan.left_out.iter().filter(|(_, obstacle)| *obstacle == Obstacle::NoParent);
    left.filter_map(|(index, _)| images.get(*index)).map(|image| image.open.image_id.0).collect()
}

fn tell(begun: &BTreeMap<usize, Begun>, index: usize, input: Input) {
    if let Some(begun) = begun.get(&index) {
        begun.door.tell(input);
    }
}

/// What came of a job, for the operator.
fn check(agent: &AgentRow, outcome: &JobOutcome) -> Result<(), Trouble> {
    let again = "what arrived stays; start it again to go on";
    let name = &agent.name;
    let of_refusal = |refusal: &Refusal| {
        Trouble::peer(
            refusal.code,
            format!("the target refused agent {name}: {}", refusal.message),
            again,
        )
    };
    let cut = || {
        let message = format!("the target could not be reached while agent {name} was replicated");
        Trouble::peer(ErrorCode::TargetUnreachable, message, again)
    };
    match outcome {
        JobOutcome::Succeeded => Ok(()),
        JobOutcome::Stopped(_) => {
            Err(Trouble::operator(ErrorCode::WrongState, "interrupted before it was done", again))
        }
        JobOutcome::NotStarted(Failure::Refused(refusal)) => Err(of_refusal(refusal)),
        JobOutcome::NotStarted(Failure::Cut) => Err(cut()),
        JobOutcome::Partly(failed) => Err(match failed.first() {
            Some((_, Outcome::Refused(refusal))) => of_refusal(refusal),
            Some((_, Outcome::Unreadable(message))) => {
                Trouble::operator(ErrorCode::HashMismatch, message, "see: offsite-source verify")
            }
            _ => cut(),
        }),
    }
}

/// Asks one question of the preflight.
async fn ask(shared: &Shared, agent: AgentId, bytes: u64, ask: Ask) -> Result<Answer, Failure> {
    let connection = shared.link.connection().await?;
    let of = OfAgent { agent };
    match ask {
        Ask::Pairing => {
            let identity = &shared.means.identity;
            let body = Json(PairingSync {
                core_id: Text(identity.core_id()),
                host_name: identity.name.clone(),
                version: ProductVersion::from_package(env!("CARGO_PKG_VERSION")),
                request_id: None,
                agents: vec![AgentSync {
                    id: Text(agent),
                    agent_pairing_state: AgentPairingState::Unknown,
                    paused: false,
                    repository_id: None,
                }],
            });
            let answer = connection.call::<pairing::Sync>(&(), &body).await.map_err(failure)?;
            match answer.body.0.pairing_state {
                PairingState::Active | PairingState::Accepted => Ok(Answer::Fine),
                _ => Err(Failure::Refused(Refusal::new(
                    ErrorCode::NotPaired,
                    "the pairing has ended",
                ))),
            }
        }
        Ask::MayStart => {
            let answer = connection.call::<catalog::VerifyReplication>(&of, &()).await;
            let Json(answer) = answer.map_err(failure)?.body;
            if answer.can_start {
                return Ok(Answer::Fine);
            }
            let reason = answer.reasons.into_iter().next();
            let refusal = reason.map_or_else(
                || Refusal::new(ErrorCode::Forbidden, "the target gives no reason"),
                |reason| Refusal::new(reason.code, reason.message),
            );
            Ok(Answer::MayNotStart(refusal))
        }
        Ask::FreeSpace => {
            connection.call::<catalog::AskFreeSpace>(&of, &()).await.map_err(failure)?;
            Ok(Answer::Fine)
        }
        Ask::SeedDrives => {
            let drives = connection.call::<catalog::ListConsumedSeedDrives>(&of, &()).await;
            drives.map_err(failure)?;
            Ok(Answer::Seeded(Vec::new()))
        }
        Ask::Mirror => {
            let body = Json(StartMirror {
                agent_id: Text(agent),
                job_id: Text(shared.job),
                volumes: Vec::new(),
                total_bytes: Big(bytes),
                is_forced: true,
                parent_job_id: None,
            });
            connection.call::<Start>(&(), &body).await.map_err(failure)?;
            Ok(Answer::Fine)
        }
        Ask::Images | Ask::Orphans => {
            let mut page = Paged::first(of);
            let mut theirs = Vec::new();
            for _ in 0..PAGES_MAX {
                let answer = match ask {
                    Ask::Images => connection.call::<catalog::ListImages>(&page, &()).await,
                    _ => connection.call::<catalog::ListOrphans>(&page, &()).await,
                };
                let Json(part) = answer.map_err(failure)?.body;
                theirs.extend(part.items.iter().map(summary));
                page.after = part.next;
                if page.after.is_none() {
                    return Ok(Answer::Images(theirs));
                }
            }
            Err(Failure::Refused(Refusal::new(ErrorCode::TooLarge, "the target's list has no end")))
        }
        Ask::Transferred((volume, epoch)) => {
            let of = OfImage { agent, volume, epoch };
            let answer = connection.call::<TransferredBlocksOfImage>(&of, &()).await;
            Ok(Answer::Transferred(runs_of(&answer.map_err(failure)?.body).unwrap_or_default()))
        }
    }
}

fn summary(image: &VolumeImageSummary) -> Theirs {
    Theirs {
        name: (image.driver_volume_id.0, image.epoch_number),
        digest: image.image_digest.0,
        previous: image.previous_epoch_number,
        is_orphaned: image.is_orphaned,
    }
}

/// Row 30, at the end.
/// Tells the target's mirror of the job that it has ended, and how.
async fn mirror_end(shared: Arc<Shared>, outcome: JobOutcome) {
    if let Err(cause) = tell_mirror(&shared, &outcome).await {
        tracing::debug!(?cause, "the mirror of a job was not told of its end");
    }
}

async fn tell_mirror(shared: &Shared, outcome: &JobOutcome) -> Result<(), Failure> {
    let state = match outcome {
        JobOutcome::Succeeded => JobState::Succeeded,
        JobOutcome::Stopped(_) => JobState::Cancelled,
        JobOutcome::NotStarted(_) | JobOutcome::Partly(_) => JobState::Failed,
    };
    let body = Json(SyncMirror {
        job_id: Text(shared.job),
        state,
        phase: String::new(),
        percent: 100,
        bytes_done: Big(0),
        bytes_total: Big(0),
        error: None,
    });
    let connection = shared.link.connection().await?;
    connection.call::<Sync>(&(), &body).await.map(|_| ()).map_err(failure)
}
