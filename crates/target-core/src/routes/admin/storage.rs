//! Named storages.

use std::io;
use std::path::Path;
use std::sync::Arc;

use offsite_model::FileSystem;
use offsite_proto::admin::target::{AddStorage, ListStorages, MakeStorage, Storage};
use offsite_proto::error::{ErrorCode, Refusal};
use offsite_proto::json::Json;
use offsite_proto::text::{Big, Text};
use offsite_transport::{Call, Reply};

use super::context::{Operators, answer};
use crate::principal::Principal;
use crate::storage_list::{self, DEFAULT_NUMBER, StorageRow};

/// Storages.
pub(super) async fn list(
    state: Arc<Operators>,
    call: Call<ListStorages, Principal>,
) -> Result<Reply<Json<Vec<Storage>>>, Refusal> {
    answer(state, move |state| {
        let rows = state.read(|rows| storage_list::list(rows))?;
        Ok(rows.iter().map(|row| shown(state, &call.principal, row)).collect())
    })
    .await
}

/// Adds a storage over a directory that is empty or not there.
pub(super) async fn add(
    state: Arc<Operators>,
    call: Call<MakeStorage, Principal>,
) -> Result<Reply<Json<Storage>>, Refusal> {
    let reply = answer(state, move |state| {
        let Json(AddStorage { name, path }) = call.body;
        let row = state.write(&call.principal, |rows, deed| {
            let row = storage_list::add(rows, deed, &name, &path)?;
            prepare(&*state.target.world().files, Path::new(&path))?;
            Ok(row)
        })?;
        Ok(shown(state, &call.principal, &row))
    })
    .await?;
    Ok(reply.status(201))
}

/// Makes the directory, or finds it empty: a store never mixes with files of others.
fn prepare(files: &dyn FileSystem, path: &Path) -> Result<(), Refusal> {
    let failed = |cause: io::Error| {
        Refusal::new(
            ErrorCode::RepositoryUnavailable,
            format!("cannot use {}: {cause}", path.display()),
        )
    };
    match files.list(path) {
        Ok(names) if names.is_empty() => Ok(()),
        Ok(_) => Err(Refusal::new(
            ErrorCode::WrongState,
            format!("{} is not empty: name another directory, or an empty one", path.display()),
        )),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            files.create_dir(path).map_err(failed)?;
            path.parent().map_or(Ok(()), |parent| files.sync_dir(parent).map_err(failed))
        }
        Err(cause) => Err(failed(cause)),
    }
}

fn shown(state: &Operators, by: &Principal, row: &StorageRow) -> Storage {
    let (files, path) = (&state.target.world().files, Path::new(&row.path));
    let sizes = files.bytes_total(path).and_then(|total| Ok((total, files.bytes_free(path)?)));
    let (total, free, condition) = match sizes {
        Ok((total, free)) => (total, free, "online".to_owned()),
        Err(cause) => (0, 0, format!("offline: {cause}")),
    };
    let told = |bytes| Big(storage_list::told_bytes(&by.tenants(), bytes));
    Storage {
        storage_id: row.number.into(),
        repository_id: Text(row.repository),
        name: row.name.clone(),
        path: row.path.clone(),
        default: row.number == DEFAULT_NUMBER,
        bytes_total: told(total),
        bytes_free: told(free),
        state: condition,
    }
}
