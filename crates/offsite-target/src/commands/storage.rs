//! Verbs about storage.

use offsite_proto::admin::target::{AddStorage, ListStorages, MakeStorage};
use offsite_proto::json::Json;
use offsite_terminal::{Exit, Failure, facts, size, table};

use super::report;
use crate::cli::Storage;
use crate::context::Context;

/// Runs them.
pub(crate) async fn run(context: &Context, verb: Storage) -> Result<Exit, Failure> {
    match verb {
        Storage::List => list(context).await,
        Storage::Add { name, path } => {
            // The daemon may stand in another directory than the caller.
            let path = std::path::absolute(&path).map_err(|error| {
                Failure::usage(format!("cannot resolve {}: {error}", path.display()), "")
            })?;
            let path = path.into_os_string().into_string();
            let path = path.map_err(|_| Failure::usage("the directory's path is not UTF-8", ""))?;
            let body = Json(AddStorage { name, path });
            let Json(storage) = context.ask::<MakeStorage>(&(), &body).await?;
            context.out.result(&storage, |storage| {
                facts(&[
                    ("storage", Some(storage.storage_id.to_string())),
                    ("name", Some(storage.name.clone())),
                    ("directory", Some(storage.path.clone())),
                ])
            })
        }
        Storage::Report { csv } => report::run(context, csv).await,
    }
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let Json(storages) = context.ask::<ListStorages>(&(), &()).await?;
    context.out.result(&storages, |storages| {
        table(
            ["ID", "NAME", "DEFAULT", "STATE", "TOTAL", "FREE", "DIRECTORY"],
            storages.iter().map(|storage| {
                [
                    storage.storage_id.to_string(),
                    storage.name.clone(),
                    if storage.default { "yes" } else { "no" }.to_owned(),
                    storage.state.clone(),
                    size(storage.bytes_total.0),
                    size(storage.bytes_free.0),
                    storage.path.clone(),
                ]
            }),
        )
    })
}
