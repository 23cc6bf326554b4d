//! Which volume of which recovery point an operator means, opened for reading while no daemon has
//! the store.
//!
//! **Absent:** reading it (`offsite-content`), files to write (the program).

use std::path::Path;
use std::sync::Arc;

use offsite_content::{Content, ReadError};
use offsite_model::{AgentId, PointId, VolumeId};
use offsite_proto::catalog::PointStatus;
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_store::catalog::RedbCatalog;
use offsite_store::{Settings as StoreSettings, Store, StoreError};
use offsite_transport::Mutations;

use crate::World;
use crate::config::Settings;
use crate::failure::Failure;
use crate::peers::Register;
use crate::replicas::{Owner, PointShown, Replicas};
use crate::target::CATALOG_FILE;

/// What an operator names.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// An agent: its id, `SOURCE/NAME`, or a name that only one has.
    pub agent: &'a str,
    /// A volume: its label or its id.
    pub volume: &'a str,
    /// A point: its id, or `latest`.
    pub point: &'a str,
}

/// Opens a volume while no daemon has the data directory; the store is only read. What opening
/// changes in other files goes to the files of `world`, which may keep it in memory. Blocks.
///
/// # Errors
/// `agent_unknown`, `point_unknown`, `image_unknown`; `bad_request` for a name that several agents
/// have; damage.
pub fn open_offline(
    directory: &Path,
    store: &Path,
    world: &World,
    named: &Named<'_>,
    n_threads: usize,
) -> Result<Opened, Refusal> {
    let catalog = RedbCatalog::open(&*world.files, &directory.join(CATALOG_FILE));
    let catalog: Arc<dyn offsite_store::catalog::Catalog> =
        Arc::new(catalog.map_err(Failure::from)?);
    let rules = Settings::shipped("").rules();
    let register = Register::open(Arc::clone(&catalog), rules).map_err(Failure::from)?;
    let (owner, agent) = find_agent(&register, named.agent)?;
    let store = Store::open_read_only(Arc::clone(&world.files), store, StoreSettings::default())
        .map_err(|error| refusal(&error))?;
    let mutations = Mutations::new();
    let (at, rules) = (world.clone(), Default::default());
    let replicas = Replicas::over(store.clone(), at, catalog, rules, mutations, n_threads);
    Opened::of(&replicas, &owner, agent, named)
}

/// Finds a volume of a point.
fn find_volume(
    replicas: &Replicas,
    owner: &Owner,
    agent: AgentId,
    named: &Named<'_>,
) -> Result<(PointId, VolumeId), Refusal> {
    let points = replicas.points_with_orphans(owner, Some(agent))?;
    let is_latest = named.point == "latest";
    let is_newest =
        |point: &PointShown| point.status == PointStatus::Ok && point.deleted_at.is_none();
    let is_meant = |point: &&PointShown| match is_latest {
        // Volumes come and go: the newest that has the one that is asked for.
        true => is_newest(point) && point.volume(named.volume).is_some(),
        // A deleted one, too, while it can be undeleted.
        false => point.id.to_string() == named.point.to_lowercase(),
    };
    // Where none has it, the newest of all says what there is.
    let newest = || points.iter().find(|point| is_latest && is_newest(point));
    let point = points.iter().find(is_meant).or_else(newest).ok_or_else(|| {
        Refusal::new(
            ErrorCode::PointUnknown,
            format!("agent {} has no such recovery point", named.agent),
        )
    })?;
    point.check_whole()?;
    let volume = point.volume(named.volume).ok_or_else(|| {
        let known = point.images.iter().filter_map(|image| image.open.display_name.clone());
        let known = known.collect::<Vec<_>>().join(", ");
        let sentence = format!("the point has no volume {}; it has: {known}", named.volume);
        Refusal::new(ErrorCode::ImageUnknown, sentence)
    })?;
    Ok((point.id, volume))
}

fn find_agent(register: &Register, name: &str) -> Result<(Owner, AgentId), Refusal> {
    let mut found = Vec::new();
    for row in register.peers()? {
        let Some(place) = &row.place else { continue };
        let owner = Owner { tenant: place.tenant.0, source: place.subject.0 };
        let source = &row.asked().host_name;
        for agent in &row.asked().wish.agents {
            let is_named = agent.display_name == name
                || format!("{source}/{}", agent.display_name) == name
                || agent.id.to_string() == name.to_lowercase();
            if is_named {
                found.push((owner, agent.id, format!("{source}/{}", agent.display_name)));
            }
        }
    }
    match found.as_slice() {
        [(owner, agent, _)] => Ok((*owner, *agent)),
        [] => Err(Refusal::new(ErrorCode::AgentUnknown, format!("there is no agent {name}"))),
        several => {
            let names: Vec<_> = several.iter().map(|(.., name)| name.as_str()).collect();
            let sentence = format!("several agents are called {name}: {}", names.join(", "));
            Err(Refusal::new(ErrorCode::BadRequest, sentence))
        }
    }
}

/// An error of the store in the words of the wire.
#[must_use]
pub fn refusal(error: &StoreError) -> Refusal {
    let code = match error {
        StoreError::Damaged(_) | StoreError::UnknownRecord { .. } => ErrorCode::HashMismatch,
        _ => ErrorCode::RepositoryUnavailable,
    };
    Refusal::new(code, error.to_string())
}

/// A volume of a point, open for reading.
pub struct Opened {
    /// The volume.
    pub content: Content,
    /// The point.
    pub point: PointId,
}

impl Opened {
    /// Opens a volume of a point. Blocks.
    ///
    /// # Errors
    /// `point_unknown`, `image_unknown`; damage.
    pub(crate) fn of(
        replicas: &Replicas,
        owner: &Owner,
        agent: AgentId,
        named: &Named<'_>,
    ) -> Result<Self, Refusal> {
        let (point, volume) = find_volume(replicas, owner, agent, named)?;
        let (store, tenant) = (replicas.store.clone(), owner.tenant);
        let image = store.image(tenant, point, volume).map_err(|error| refusal(&error))?;
        Ok(Self { content: Content::new(store, tenant, image, replicas.n_threads), point })
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Store(error) => refusal(&error).into(),
            error => Self::refused(ErrorCode::Internal, error.to_string()),
        }
    }
}
