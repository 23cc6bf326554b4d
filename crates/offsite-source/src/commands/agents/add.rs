//! `agents add`: the volumes are named here and looked at by the daemon.

use std::path::Path;

use offsite_model::AgentId;
use offsite_proto::admin::source::{AddAgent, CreateAgent, VolumeSpec};
use offsite_proto::json::Json;
use offsite_proto::text::Text;
use offsite_terminal::{Exit, Failure};

use super::text;
use crate::context::Context;
use crate::place::absolute;

pub(crate) async fn run(
    context: &Context,
    name: String,
    volumes: &[String],
    encrypt: bool,
    lost: Option<AgentId>,
) -> Result<Exit, Failure> {
    if encrypt {
        return Err(Failure::new(
            Exit::Failed,
            "not_implemented",
            "this version cannot encrypt records at the source",
            "add the agent without --encrypt, or wait for a later version",
        ));
    }
    let volumes = volumes.iter().map(|text| volume(text)).collect::<Result<_, _>>()?;
    let order = Json(AddAgent { name, volumes, agent_id: lost.map(Text) });
    let Json(agent) = context.ask::<CreateAgent>(&(), &order).await?;
    context.out.result(&agent, text)
}

/// Reads `LABEL=PATH`; a relative path counts from here, not from where the daemon runs.
fn volume(text: &str) -> Result<VolumeSpec, Failure> {
    let wrong = |why: &str| {
        Failure::usage(
            format!("--volume {} {why}", text.escape_debug()),
            "write --volume LABEL=PATH, such as root=/dev/vda",
        )
    };
    let (label, path) = text.split_once('=').ok_or_else(|| wrong("has no ="))?;
    if label.is_empty() || path.is_empty() {
        return Err(wrong("lacks its label or its path"));
    }
    let path = absolute(Path::new(path))?;
    let path =
        path.into_os_string().into_string().map_err(|_| wrong("has a path that is not UTF-8"))?;
    Ok(VolumeSpec { label: label.to_owned(), path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_label_and_path() {
        let spec = volume("root=/dev/v=a").unwrap();
        assert_eq!((spec.label.as_str(), spec.path.as_str()), ("root", "/dev/v=a"));
        assert!(volume("root=disk.img").unwrap().path.ends_with("/disk.img"));
        for text in ["root", "=/dev/vda", "root=", ""] {
            assert_eq!(volume(text).unwrap_err().exit, Exit::Usage, "{text}");
        }
    }
}
