//! Which volume of which recovery point an operator means, opened for reading.
//!
//! **Absent:** files: whoever asked writes them with his own rights.

use offsite_content::Content;
use offsite_model::PointId;
use offsite_proto::error::ErrorCode;

use crate::error::Trouble;
use crate::memory::Memory;
use crate::points;
use crate::protect::Protection;

/// A volume of a point, open for reading.
pub struct Opened {
    /// The volume.
    pub content: Content,
    /// The point.
    pub point: PointId,
    /// Bytes that are not zeros.
    pub data_bytes: u64,
}

/// Opens a volume of a point.
///
/// # Errors
/// `agent_unknown`, `point_unknown`, `image_unknown`; damage; the disk's.
pub fn open(
    protection: &Protection,
    memory: &Memory,
    agent: &str,
    volume: &str,
    point: Option<&str>,
) -> Result<Opened, Trouble> {
    let agent = points::agent_id(memory, agent)?;
    let kept = points::find(&protection.store, protection.tenant, agent, volume, point)?;
    let Some(summary) = kept.image(volume) else {
        let shown: String = volume.chars().take(128).flat_map(char::escape_debug).collect();
        return Err(Trouble::operator(
            ErrorCode::ImageUnknown,
            format!("recovery point {} has no volume {shown}", kept.point.point),
            format!("its volumes are: {}", kept.note.labels.join(", ")),
        ));
    };
    let image = protection.store.image(protection.tenant, kept.point.point, summary.volume)?;
    let n_threads = protection.settings.n_workers;
    let content = Content::new(protection.store.clone(), protection.tenant, image, n_threads);
    let data_bytes = content.data_bytes()?;
    Ok(Opened { content, point: kept.point.point, data_bytes })
}
