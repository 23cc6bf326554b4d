//! Making a recovery point: all volumes of an agent are read, what is new is stored, and one commit
//! makes it exist.
//!
//! `pipeline` takes one volume through reading, hashing and compressing on several threads;
//! `list` compares it with the parent; `run` surrounds it with hooks and the commit. Until the
//! commit nothing of an attempt can be seen, and dropping its session removes what it wrote.
//!
//! **Absent:** when to protect (the operator, later the schedule), replication.

mod buffers;
mod group;
mod list;
mod pipeline;
mod reader;
mod settings;
mod workers;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use offsite_model::{AgentId, Clock, FileSystem, ImageId, Luck, PointId, TenantId};
use offsite_proto::admin::protection::Protected;
use offsite_proto::error::ErrorCode;
use offsite_proto::text::{Big, Text};
use offsite_store::group::Form;
use offsite_store::{ImageSpec, PointSpec, Session, Store};
use offsite_volume::Volume;

pub use self::settings::Settings;
use self::settings::Tally;
use crate::causes::unreadable;
use crate::error::Trouble;
use crate::hooks::{self, Runner};
use crate::memory::{AgentRow, HooksRow, VolumeRow};
use crate::points::{self, Note};
use crate::progress::Progress;

/// What protecting, restoring and verifying work with.
pub struct Protection {
    /// Where recovery points are kept.
    pub store: Store,
    /// This source's own tenant in it.
    pub tenant: TenantId,
    /// Where volumes lie.
    pub files: Arc<dyn FileSystem>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub luck: Arc<dyn Luck>,
    /// Who runs hooks.
    pub runner: Arc<dyn Runner>,
    /// How volumes are cut and packed.
    pub settings: Settings,
    /// Agents that are being protected.
    pub busy: Mutex<BTreeSet<AgentId>>,
    /// One at a time has the processors and the memory.
    pub turn: Mutex<()>,
}

/// The right to protect an agent: there is one per agent.
pub struct Claim<'a> {
    protection: &'a Protection,
    agent: AgentId,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.protection.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.agent);
    }
}

impl Protection {
    /// Claims an agent.
    ///
    /// # Errors
    /// `wrong_state` while it is being protected.
    pub fn claim(&self, agent: &AgentRow) -> Result<Claim<'_>, Trouble> {
        let id = agent.agent_id();
        if self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(id) {
            return Ok(Claim { protection: self, agent: id });
        }
        Err(Trouble::operator(
            ErrorCode::WrongState,
            format!("agent {} is being protected already", agent.name),
            "wait until that recovery point is made",
        ))
    }

    /// Protects an agent. Blocks until the point is durable, or until `progress` was cancelled.
    ///
    /// # Errors
    /// With the volume and what to do about it; no point exists then.
    pub fn protect(
        &self,
        agent: &AgentRow,
        hooks: Option<&HooksRow>,
        progress: &Progress,
    ) -> Result<Protected, Trouble> {
        let _claim = self.claim(agent)?;
        progress.stage("waiting", None);
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        progress.check()?;
        let began = self.clock.uptime();
        let taken_at = self.clock.now();
        let mut session = self.store.session(self.tenant)?;
        progress.stage("hook", None);
        let mut remarks = Vec::new();
        let read = hooks::around(&*self.runner, agent, hooks, &mut remarks, || {
            self.read_all(agent, &mut session, progress)
        });
        let (images, tally) = read?;
        progress.check()?;
        progress.stage("committing", None);
        let point = PointId::random(&*self.luck);
        let note = Note {
            agent: agent.name.clone(),
            sequence: points::next_sequence(&self.store, self.tenant, agent.agent_id())?,
            labels: agent.volumes.iter().map(|volume| volume.label.clone()).collect(),
            new_bytes: Big(tally.new_bytes),
            stored_bytes: Big(tally.stored_bytes),
            lists: images.iter().map(|listed| listed.note.clone()).collect(),
        };
        let mut token = [0; 16];
        self.luck.fill(&mut token);
        let spec = PointSpec {
            point,
            agent: agent.agent_id(),
            taken_at,
            committed_at: self.clock.now(),
            n_images: u32::try_from(images.len()).unwrap_or(u32::MAX),
            token,
            note: note.encode(),
        };
        session.commit(
            spec,
            images.into_iter().map(|listed| (listed.image, Some(listed.digest))).collect(),
        )?;
        let micros = self.clock.uptime().as_micros().saturating_sub(began.as_micros());
        Ok(Protected {
            point: Text(point),
            logical_bytes: Big(tally.logical_bytes),
            read_bytes: Big(tally.read_bytes),
            new_bytes: Big(tally.new_bytes),
            stored_bytes: Big(tally.stored_bytes),
            seconds: micros as f64 / 1e6,
            remarks,
        })
    }

    /// Reads all volumes into images of the session.
    fn read_all(
        &self,
        agent: &AgentRow,
        session: &mut Session,
        progress: &Progress,
    ) -> Result<(Vec<list::Listed>, Tally), Trouble> {
        let volumes = self.open_all(agent)?;
        let total =
            volumes.iter().fold(0_u64, |sum, (_, volume)| sum.saturating_add(volume.bytes()));
        progress.set_total(total);
        let parent = points::newest(&self.store, self.tenant, agent.agent_id())?;
        let mut images = Vec::with_capacity(volumes.len());
        let mut tally = Tally::default();
        for (row, volume) in &volumes {
            progress.stage("reading", Some(&row.label));
            let image = self.image(session, row, volume, parent.as_ref())?;
            let source = pipeline::Source { agent: &agent.name, label: &row.label, volume };
            images.push(pipeline::run(
                &source,
                session,
                image,
                &self.settings,
                progress,
                &mut tally,
            )?);
            tally.logical_bytes = tally.logical_bytes.saturating_add(volume.bytes());
        }
        // All volumes are of one moment only if none was resized until the last was read.
        for (row, volume) in &volumes {
            volume.check_size().map_err(|error| unreadable(&agent.name, &row.label, &error))?;
        }
        Ok((images, tally))
    }

    fn open_all<'a>(&self, agent: &'a AgentRow) -> Result<Vec<(&'a VolumeRow, Volume)>, Trouble> {
        let volumes = agent.volumes.iter().map(|row| {
            let opened = Volume::open(&*self.files, Path::new(&row.path));
            let volume = opened.map_err(|error| unreadable(&agent.name, &row.label, &error))?;
            Ok((row, volume))
        });
        volumes.collect()
    }

    /// Begins the image of a volume, upon that of the parent where there is one.
    fn image(
        &self,
        session: &Session,
        row: &VolumeRow,
        volume: &Volume,
        parent: Option<&points::Kept>,
    ) -> Result<list::List, Trouble> {
        let inherited = parent.and_then(|parent| {
            let image = parent.point.images.iter().find(|image| image.volume == row.volume_id())?;
            Some((parent.point.point, image.record_bytes))
        });
        let spec = ImageSpec {
            image: ImageId::random(&*self.luck),
            volume: row.volume_id(),
            bytes: volume.bytes(),
            record_bytes: inherited.map_or(self.settings.record_bytes, |(_, bytes)| bytes),
            form: Form::Plain,
        };
        let point = inherited.map(|(point, _)| point);
        let image = session.image(spec, point, None)?;
        Ok(list::List::new(image, point, spec.bytes, spec.record_bytes))
    }
}
