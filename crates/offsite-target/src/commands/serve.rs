//! `serve`: the daemon. Opens everything, binds early, serves last, and stops in the opposite
//! order.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use offsite_daemon::data_dir::Published;
use offsite_daemon::{
    DataDir, Shutdown, SystemClock, SystemFiles, SystemLuck, logging, process, readiness,
};
use offsite_model::{Clock, FileSystem, Luck, Span};
use offsite_pki::{Thumbprint, tls};
use offsite_store::Store;
use offsite_target_core::gate::ReplicationGate;
use offsite_target_core::{Operators, Target, World, setup};
use offsite_terminal::{Exit, Failure};
use offsite_transport::{
    Classify, ConnectionClass, ConnectionPolicy, Listening, LocalServer, Server,
};
use serde_json::json;

use crate::context::Context;
use crate::identity;
use crate::place::{PROGRAM, SOCKET, STORE};
use crate::settings::File;

/// Time that changes under way get after the listeners have stopped.
const MUTATIONS: Span = Span::from_secs(10);

/// Runs it.
pub(crate) async fn run(context: &Context) -> Result<Exit, Failure> {
    process::harden()
        .map_err(|error| Failure::failed(format!("cannot forbid core files: {error}")))?;
    let files: Arc<dyn FileSystem> = Arc::new(SystemFiles);
    let data = DataDir::open(Arc::clone(&files), &context.data, PROGRAM)
        .map_err(|error| Failure::new(Exit::Failed, "data_directory", error.to_string(), ""))?;
    let file = File::read(&*files, &data.config_path())
        .map_err(|error| Failure::new(Exit::Usage, "configuration", error.to_string(), ""))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    logging::start(file.log.format(), file.log.filter(), Arc::clone(&clock))
        .map_err(|error| Failure::new(Exit::Usage, "configuration", error.to_string(), ""))?;
    let world = World { clock, luck: Arc::new(SystemLuck), files };
    // From here on what goes wrong is also in the log.
    serve(data, &file, world).await.map_err(|error| {
        tracing::error!(cause = %format!("{error:#}"), "stopped");
        Failure::failed(format!("{error:#}"))
    })
}

async fn serve(data: DataDir, file: &File, world: World) -> anyhow::Result<Exit> {
    let shutdown =
        Shutdown::on_signals(file.drain().to_std()).context("cannot listen for signals")?;
    let luck: Arc<dyn Luck> = Arc::clone(&world.luck);
    let keys = identity::open(&world.files, data.path(), &*world.clock, &*luck)?;
    let shown = tls::ServerIdentity::new(&keys.key, &keys.identity.certificate)?;
    let run = data.clean_run_dir()?;
    let policy = ConnectionPolicy { drain: file.drain().to_std(), ..ConnectionPolicy::default() };
    let (listen, tls) = (file.listen, tls::replication_server(&shown)?);
    let replication = Server::bind(listen.replication, tls, policy.clone()).await;
    let replication = bound("replication", listen.replication, replication)?;
    let operator =
        Server::bind(listen.operator, tls::operator_server(&shown)?, policy.clone()).await;
    let operator = bound("operator", listen.operator, operator)?;
    let fingerprint = keys.identity.certificate.thumbprint();
    let target = Target::open(data.path(), file.settings(), keys.identity, world)
        .context("cannot open the catalog")?;
    let store = open_store(&target.world().files, &data.path().join(STORE))?;
    let n_threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let files = Arc::clone(&target.world().files);
    target.keep_in(store, files, n_threads).context("cannot use the store")?;
    let socket = data.path().join(SOCKET);
    let local = LocalServer::bind(&socket, policy.clone())
        .with_context(|| format!("cannot listen at {}", socket.display()))?;
    let operators = Operators::new(Arc::clone(&target));
    let replication_router = target.replication_router()?;
    let network_router = operators.network_router()?;
    let local_router = operators.local_router()?;
    let connections = replication.connections();
    target.register().on_end(Box::new(move |key| {
        let noted = connections.open_of(&Thumbprint::from_bytes(*key));
        Box::new(move || {
            let n_cut = noted.cut();
            tracing::info!(connections = n_cut, "a pairing ended; its connections were cut");
        })
    }));
    setup::record_turn(&target, process::owner(), true)?;
    let published = publish(&data, &replication, &operator)?;
    tracing::info!(%fingerprint, run = %run.display(), "serving");
    report(readiness::ready());

    let draining = shutdown.draining();
    let gate: Arc<dyn Classify> = Arc::new(ReplicationGate::new(Arc::clone(&target)));
    let keeping = tokio::spawn(Arc::clone(&target).keep_store(draining.clone()));
    let housekeeping = tokio::spawn(Arc::clone(&target).run(draining.clone()));
    tokio::join!(
        replication.serve(replication_router, gate, draining.clone()),
        operator.serve(network_router, Arc::new(Strangers), draining.clone()),
        local.serve(local_router, draining.clone()),
    );

    report(readiness::stopping());
    drop(published);
    let left = target.mutations().finish(MUTATIONS.to_std()).await;
    if left > 0 {
        tracing::warn!(mutations = left, "changes were still under way at the end");
    }
    keeping.await.context("keeping the store in order failed")?;
    housekeeping.await.context("the housekeeping failed")?;
    setup::record_turn(&target, process::owner(), false)?;
    tracing::info!("stopped");
    Ok(Exit::Done)
}

/// Opens the store of recovery points. It is made by `init` and never here: a store that is not
/// there is a disk that is not mounted, and an empty one in its place would hide that.
fn open_store(files: &Arc<dyn FileSystem>, path: &Path) -> anyhow::Result<Store> {
    let store = Store::open(Arc::clone(files), path, offsite_store::Settings::default())
        .with_context(|| format!("cannot open the recovery points in {}", path.display()))?;
    for alarm in store.alarms() {
        tracing::error!(cause = ?alarm, "the store needs looking at");
    }
    Ok(store)
}

fn bound(
    what: &str,
    address: SocketAddr,
    listening: std::io::Result<Listening>,
) -> anyhow::Result<Listening> {
    let listening = listening.with_context(|| format!("cannot listen at {address} ({what})"))?;
    tracing::info!(listener = what, address = %listening.local_address()?, "bound");
    Ok(listening)
}

/// Nobody is known on the operator listener before his token is read, which is a matter of each
/// request.
struct Strangers;

impl Classify for Strangers {
    fn class(&self, _: Option<&Thumbprint>) -> ConnectionClass {
        ConnectionClass::Unknown
    }
}

fn publish(
    data: &DataDir,
    replication: &Listening,
    operator: &Listening,
) -> anyhow::Result<Published> {
    let addresses = json!({
        "replication": replication.local_address()?.to_string(),
        "operator": operator.local_address()?.to_string(),
        "pid": process::id(),
    });
    Ok(data.publish_addresses(&addresses.to_string())?)
}

/// A service manager that cannot be told is worth a line, not the end.
fn report(told: std::io::Result<()>) {
    if let Err(cause) = told {
        tracing::warn!(%cause, "cannot tell the service manager");
    }
}
