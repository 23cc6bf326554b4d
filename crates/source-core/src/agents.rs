//! The agents of this source: adding, listing, removing.
//!
//! A volume is a file or a block device under a label. Adding looks at it (does it exist, how large
//! is it) and reads nothing of it; protecting it is another module's work.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use offsite_model::{AgentId, Clock, FileSystem, Luck, VolumeId};
use offsite_model::{Kind, OpenMode};
use offsite_proto::admin::source::{AddAgent, Agent, Volume, VolumeSpec};
use offsite_proto::error::ErrorCode;
use offsite_proto::text::{Big, Text, Time};

use crate::error::Trouble;
use crate::memory::{AGENTS_MAX, AgentRow, Memory, VOLUMES_MAX, VolumeRow};
use crate::names::check_name;

/// Bytes of a path.
const PATH_BYTES_MAX: usize = 4_096;

/// Adds an agent after every volume was looked at.
///
/// # Errors
/// The operator's: names, paths, sizes, an agent of this name. The disk's.
pub fn add(
    memory: &Memory,
    files: &dyn FileSystem,
    clock: &dyn Clock,
    luck: &dyn Luck,
    order: &AddAgent,
) -> Result<Agent, Trouble> {
    check_name("agent", &order.name)?;
    let known = memory.agents()?;
    if known.iter().any(|agent| agent.name == order.name) {
        return Err(Trouble::operator(
            ErrorCode::AlreadyExists,
            format!("there is an agent {} already", order.name),
            format!("see it with: offsite-source agents show {}", order.name),
        ));
    }
    let id = order.agent_id.map_or_else(|| AgentId::random(luck), |id| id.0);
    if let Some(same) = known.iter().find(|agent| agent.agent_id() == id) {
        return Err(Trouble::operator(
            ErrorCode::AlreadyExists,
            format!("agent {} has the id {id} already", same.name),
            format!("see it with: offsite-source agents show {}", same.name),
        ));
    }
    if known.len() >= AGENTS_MAX {
        return Err(Trouble::operator(
            ErrorCode::TooLarge,
            format!("a source has at most {AGENTS_MAX} agents"),
            "remove agents that are no longer needed",
        ));
    }
    let volumes = check_volumes(files, luck, &order.volumes)?;
    let agent = AgentRow::new(id, order.name.clone(), volumes, clock.now());
    memory.put_agent(&agent)?;
    Ok(view(files, &agent))
}

/// All agents, by name.
///
/// # Errors
/// The disk's.
pub fn list(memory: &Memory, files: &dyn FileSystem) -> Result<Vec<Agent>, Trouble> {
    let mut agents = memory.agents()?;
    agents.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(agents.iter().map(|agent| view(files, agent)).collect())
}

/// One agent, by its name or its id.
///
/// # Errors
/// `agent_unknown`; the disk's.
pub fn find(memory: &Memory, name: &str) -> Result<AgentRow, Trouble> {
    let id = name.parse::<AgentId>().ok();
    let agents = memory.agents()?;
    let found = agents.into_iter().find(|agent| agent.name == name || Some(agent.agent_id()) == id);
    found.ok_or_else(|| {
        let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
        Trouble::operator(
            ErrorCode::AgentUnknown,
            format!("there is no agent {shown}"),
            "see the agents of this source with: offsite-source agents list",
        )
    })
}

/// An agent as people see it, its volumes looked at again.
#[must_use]
pub fn view(files: &dyn FileSystem, agent: &AgentRow) -> Agent {
    let volumes = agent.volumes.iter().map(|volume| {
        let (bytes, problem) = match look(files, &volume.path) {
            Ok(bytes) => (bytes, None),
            Err(why) => (volume.bytes, Some(why)),
        };
        Volume {
            label: volume.label.clone(),
            path: volume.path.clone(),
            bytes: Big(bytes),
            problem,
        }
    });
    let volumes: Vec<_> = volumes.collect();
    let logical_bytes =
        volumes.iter().fold(0_u64, |sum, volume| sum.saturating_add(volume.bytes.0));
    Agent {
        agent_id: Text(agent.agent_id()),
        name: agent.name.clone(),
        volumes,
        logical_bytes: Big(logical_bytes),
        created_at: Time(agent.created_at()),
    }
}

fn check_volumes(
    files: &dyn FileSystem,
    luck: &dyn Luck,
    specs: &[VolumeSpec],
) -> Result<Vec<VolumeRow>, Trouble> {
    if specs.is_empty() || specs.len() > VOLUMES_MAX {
        return Err(Trouble::operator(
            ErrorCode::BadRequest,
            format!("an agent has 1 to {VOLUMES_MAX} volumes, not {}", specs.len()),
            "name each with --volume LABEL=PATH",
        ));
    }
    let (mut labels, mut paths) = (BTreeSet::new(), BTreeSet::new());
    let mut volumes = Vec::with_capacity(specs.len());
    for VolumeSpec { label, path } in specs {
        check_name("volume", label)?;
        if !labels.insert(label) {
            return Err(Trouble::operator(
                ErrorCode::BadRequest,
                format!("the label {label} stands twice"),
                "give each volume of an agent a label of its own",
            ));
        }
        if !paths.insert(path) {
            return Err(Trouble::operator(
                ErrorCode::BadRequest,
                format!("the path of volume {label} stands twice"),
                "name each volume once",
            ));
        }
        let bytes = look(files, path).map_err(|why| {
            Trouble::operator(
                ErrorCode::BadRequest,
                format!("cannot use volume {label}: {why}"),
                "name a disk image or a block device that the daemon may read, by its absolute \
                    path",
            )
        })?;
        volumes.push(VolumeRow::new(VolumeId::random(luck), label.clone(), path.clone(), bytes));
    }
    Ok(volumes)
}

/// The size of a volume in bytes, or why there is none.
fn look(files: &dyn FileSystem, path: &str) -> Result<u64, String> {
    let shown: String = path.chars().take(200).flat_map(char::escape_debug).collect();
    let why = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!("{shown} does not exist"),
        io::ErrorKind::PermissionDenied => format!("the daemon may not read {shown}"),
        _ => format!("{shown}: {error}"),
    };
    if path.len() > PATH_BYTES_MAX || !Path::new(path).is_absolute() || path.contains('\0') {
        return Err(format!("{shown} is not an absolute path"));
    }
    let kind = files.metadata(Path::new(path)).map_err(why)?.kind;
    match kind {
        // A link is followed: operators name devices by links that outlive a restart.
        Kind::File | Kind::BlockDevice | Kind::Symlink => {}
        Kind::Directory => return Err(format!("{shown} is a directory")),
        Kind::Other => return Err(format!("{shown} is neither a file nor a block device")),
    }
    let file = files.open(Path::new(path), OpenMode::Read).map_err(why)?;
    match file.bytes().map_err(why)? {
        // A file may be empty as it may hold one byte; a device without bytes has no medium.
        0 if kind != Kind::File => Err(format!("{shown} is empty")),
        bytes => Ok(bytes),
    }
}
