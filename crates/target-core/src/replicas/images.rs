//! What sources announced, by image: rows of the catalog, and what of them the store has committed.
//!
//! A row is written when an image is opened, before anything of it arrives. Whether the image is
//! there is asked of the store alone, so the two can never disagree about what was kept.

use offsite_model::{
    AgentId, CoreId, Digest, ImageId, JobId, PointId, SessionId, TenantId, VolumeId,
};
use offsite_proto::endpoint::Body as _;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::{Json, from_slice};
use offsite_proto::session::OpenSession;
use offsite_store::catalog::{Order, Rows, RowsMut, Table, TypedRows, TypedRowsMut, Value};
use offsite_store::{Point, Store, StoreError};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Announced images, by tenant, source, agent, volume and epoch.
pub(super) const IMAGES: Table = Table::new("replica_images");
/// Sessions, by id: the image each was opened for.
pub(super) const SESSIONS: Table = Table::new("replica_sessions");
/// Rows read at a time.
const PAGE: usize = 1_024;

/// Whose images are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// The tenant.
    pub tenant: TenantId,
    /// The source.
    pub source: CoreId,
}

/// The name of an image at this target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageName {
    /// Whose.
    pub owner: Owner,
    /// Its agent.
    pub agent: AgentId,
    /// Its volume.
    pub volume: VolumeId,
    /// Its number in the chain.
    pub epoch: u32,
}

impl Owner {
    pub(super) fn prefix(&self) -> Vec<u8> {
        [self.tenant.to_bytes(), self.source.to_bytes()].concat()
    }

    pub(crate) fn of_agent(&self, agent: AgentId) -> Vec<u8> {
        [self.prefix().as_slice(), &agent.to_bytes()].concat()
    }
}

impl ImageName {
    pub(super) fn key(&self) -> Vec<u8> {
        let epoch = self.epoch.to_be_bytes();
        [&self.owner.of_agent(self.agent), &self.volume.to_bytes()[..], &epoch].concat()
    }

    pub(super) fn from_key(key: &[u8]) -> Option<Self> {
        let id = |index: usize| {
            let bytes = key.get(index.checked_mul(16)?..)?.get(..16)?;
            <[u8; 16]>::try_from(bytes).ok()
        };
        let epoch = <[u8; 4]>::try_from(key.get(64..)?).ok()?;
        let owner =
            Owner { tenant: TenantId::from_bytes(id(0)?), source: CoreId::from_bytes(id(1)?) };
        Some(Self {
            owner,
            agent: AgentId::from_bytes(id(2)?),
            volume: VolumeId::from_bytes(id(3)?),
            epoch: u32::from_be_bytes(epoch),
        })
    }
}

/// An announced image as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ImageRow {
    open: Vec<u8>,
}

impl ImageRow {
    pub(super) fn new(open: &OpenSession) -> Self {
        Self { open: Json(open.clone()).encode() }
    }

    pub(super) fn open(&self) -> Result<OpenSession, Refusal> {
        from_slice(&self.open).map_err(|cause| {
            tracing::error!(%cause, "the row of an image is unreadable");
            Refusal::new(ErrorCode::Internal, "the target cannot read its catalog")
        })
    }
}

impl Value for ImageRow {
    const VERSION: u8 = 0;
    const BYTES_MAX: usize = 16 << 10;
}

/// What came of a commit.
pub(super) enum Outcome {
    /// The image is committed.
    Committed,
    /// It waits for its parent.
    Landed,
}

/// What a session was opened for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SessionRow {
    image: Vec<u8>,
    job: [u8; 16],
}

impl SessionRow {
    pub(super) fn new(name: &ImageName, job: JobId) -> Self {
        Self { image: name.key(), job: job.to_bytes() }
    }

    pub(super) const fn job(&self) -> JobId {
        JobId::from_bytes(self.job)
    }

    pub(super) fn name(&self) -> Option<ImageName> {
        ImageName::from_key(&self.image)
    }
}

impl Value for SessionRow {
    const VERSION: u8 = 0;
    const BYTES_MAX: usize = 256;
}

/// Keeps what row 56 announced, and the session it was given.
pub(super) fn announce(
    rows: &mut dyn RowsMut,
    name: &ImageName,
    open: &OpenSession,
    session: SessionId,
) -> Result<(), Failure> {
    rows.put_value(IMAGES, &name.key(), &ImageRow::new(open))?;
    let row = SessionRow::new(name, open.job_id.0);
    rows.put_value(SESSIONS, &session.to_bytes(), &row)?;
    Ok(())
}

/// An image that is here.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its name.
    pub name: ImageName,
    /// As it was announced.
    pub open: OpenSession,
}

impl Held {
    /// Its id.
    #[must_use]
    pub const fn image(&self) -> ImageId {
        self.open.image_id.0
    }

    /// Its point.
    #[must_use]
    pub const fn point(&self) -> PointId {
        self.open.recovery_point_id.0
    }

    /// What people call its volume.
    #[must_use]
    pub fn volume_word(&self) -> String {
        self.open.display_name.clone().unwrap_or_else(|| self.name.volume.to_string())
    }
}

/// Whether the store has committed an image as it was announced; the digest it has.
pub(super) fn committed(
    store: &Store,
    tenant: TenantId,
    open: &OpenSession,
) -> Result<Option<Digest>, StoreError> {
    match store.point(tenant, open.recovery_point_id.0) {
        Ok(point) => Ok(digest_in(&point, open)),
        Err(StoreError::PointUnknown(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn digest_in(point: &Point, open: &OpenSession) -> Option<Digest> {
    let is_it = |image: &&offsite_store::ImageSummary| {
        image.image == open.image_id.0 && image.volume == open.volume_driver_id.0
    };
    let found = point.images.iter().find(is_it).filter(|_| point.agent == open.agent_id.0)?;
    Some(found.list_digest).filter(|digest| *digest == open.image_digest.0)
}

/// The committed images of an owner, of one agent or of all, by name.
pub(super) fn held(
    rows: &dyn Rows,
    store: &Store,
    owner: &Owner,
    agent: Option<AgentId>,
) -> Result<Vec<Held>, Refusal> {
    let points = store.points(owner.tenant).map_err(|error| unreadable(&error))?;
    let mut held = announced(rows, owner, agent)?;
    held.retain(|image| {
        let at = points.binary_search_by_key(&image.point(), |point| point.point);
        let point = at.ok().and_then(|at| points.get(at));
        point.is_some_and(|point| digest_in(point, &image.open).is_some())
    });
    Ok(held)
}

/// What an owner announced, of one agent or of all, by name, whether it is here or not.
pub(super) fn announced(
    rows: &dyn Rows,
    owner: &Owner,
    agent: Option<AgentId>,
) -> Result<Vec<Held>, Failure> {
    let prefix = agent.map_or_else(|| owner.prefix(), |agent| owner.of_agent(agent));
    let mut announced = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = rows.scan_values::<ImageRow>(
            IMAGES,
            &prefix,
            after.as_deref(),
            Order::Ascending,
            PAGE,
        )?;
        let Some((last, _)) = page.last() else { return Ok(announced) };
        after = Some(last.clone());
        for (key, row) in page {
            let Some(name) = ImageName::from_key(&key) else { continue };
            announced.push(Held { name, open: row.open()? });
        }
    }
}

/// Whether an image was committed here under its token, and its point was purged since.
pub(super) fn is_purged(
    store: &Store,
    tenant: TenantId,
    open: &OpenSession,
) -> Result<bool, Refusal> {
    let token = open.commit_token.0.to_bytes();
    let outcome = store.outcome(tenant, token).map_err(|error| unreadable(&error))?;
    if outcome.is_none_or(|committed| committed.point != open.recovery_point_id.0) {
        return Ok(false);
    }
    match store.point(tenant, open.recovery_point_id.0) {
        Ok(_) => Ok(false),
        Err(StoreError::PointUnknown(_)) => Ok(true),
        Err(error) => Err(unreadable(&error)),
    }
}

/// The store cannot be read: the caller learns no more than that.
pub(crate) fn unreadable(cause: &StoreError) -> Refusal {
    tracing::error!(%cause, "the store cannot be used");
    Refusal::new(ErrorCode::RepositoryUnavailable, "the target cannot use its repository now")
        .after(30)
}
