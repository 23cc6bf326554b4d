//! The two devices, and the thread that passes packets between them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tappers::{Interface, Tun};

use super::conditions::{Conditions, Way};
use super::line::{Counts, Line};
use super::namespace::{Namespace, ip};

/// Of every packet.
const MTU: usize = 1500;
/// What a device holds for us.
const DEVICE_QUEUE: &str = "2000";
/// Packets that are taken from a device before the other gets its turn.
const TURN: usize = 64;
/// How long the thread sleeps at most before it looks whether it shall end.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Why there can be no link on this machine; `None` where there can be one.
pub(crate) fn obstacle() -> Option<&'static str> {
    if crate::tools::find("ip").is_none() {
        return Some("the emulated link needs ip, of the package iproute2");
    }
    Link::up(Conditions::default())
        .is_err()
        .then_some("the emulated link needs root, network namespaces and /dev/net/tun")
}

/// A link between two namespaces. Everything goes away when this is dropped.
pub(crate) struct Link {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// The source's and the target's.
    ends: [Namespace; 2],
}

struct Shared {
    state: Mutex<State>,
    is_over: AtomicBool,
}

struct State {
    begun: Instant,
    /// Up and down.
    lines: [Line; 2],
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(conditions: Conditions) -> Self {
        let lines = [Line::new(Way::Up, conditions.clone()), Line::new(Way::Down, conditions)];
        Self { begun: Instant::now(), lines }
    }
}

impl Link {
    /// The address of the target's end.
    pub(crate) const TARGET: &str = "10.77.0.2";
    const SOURCE: &str = "10.77.0.1";

    /// Makes two namespaces with a line of these conditions between them.
    pub(crate) fn up(conditions: Conditions) -> Result<Self> {
        let ends = [Namespace::make("source")?, Namespace::make("target")?];
        let [source, target] = &ends;
        let devices = [
            device(source, "s", Self::SOURCE, Self::TARGET)?,
            device(target, "t", Self::TARGET, Self::SOURCE)?,
        ];
        let state = Mutex::new(State::new(conditions));
        let shared = Arc::new(Shared { state, is_over: AtomicBool::new(false) });
        let passed_on = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("link".to_owned())
            .spawn(move || pass(&devices, &passed_on))?;
        Ok(Self { shared, thread: Some(thread), ends })
    }

    /// The source's namespace.
    pub(crate) fn source(&self) -> &Namespace {
        let [source, _] = &self.ends;
        source
    }

    /// The target's namespace.
    pub(crate) fn target(&self) -> &Namespace {
        let [_, target] = &self.ends;
        target
    }

    /// Changes the conditions. What is on its way is lost; counts and the script's clock start
    /// anew.
    pub(crate) fn set(&self, conditions: Conditions) {
        *self.shared.state() = State::new(conditions);
    }

    /// What was sent up and down since the conditions hold.
    pub(crate) fn counts(&self) -> [Counts; 2] {
        self.shared.state().lines.each_ref().map(Line::counts)
    }

    /// The congestion control of connections at both ends that do not choose one themselves. It is
    /// a matter of the route, since kernels allow only some as the default of a namespace.
    pub(crate) fn set_congestion(&self, name: &str) -> Result<()> {
        let [source, target] = &self.ends;
        for (end, letter, peer) in [(source, "s", Self::TARGET), (target, "t", Self::SOURCE)] {
            let route = ["route", "replace", peer, "dev", &device_name(letter), "congctl", name];
            end.ip(&route)?;
        }
        Ok(())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Of the device with this letter, which no other process of this verb has.
fn device_name(letter: &str) -> String {
    format!("ofs{}{letter}", std::process::id())
}

/// A device in a namespace. It is made here and moved, which its descriptor survives.
fn device(end: &Namespace, letter: &str, own: &str, peer: &str) -> Result<Tun> {
    let name = device_name(letter);
    let mut tun = Interface::new(&name).and_then(Tun::new_named).context("make a TUN device")?;
    tun.set_nonblocking(true)?;
    ip(&["link", "set", &name, "netns", end.name()])?;
    end.ip(&["addr", "add", own, "peer", peer, "dev", &name])?;
    let mtu = MTU.to_string();
    end.ip(&["link", "set", &name, "mtu", &mtu, "txqueuelen", DEVICE_QUEUE, "up"])?;
    Ok(tun)
}

/// Passes packets until the link goes down.
fn pass(devices: &[Tun; 2], shared: &Shared) {
    let [source, target] = devices;
    let ways = [(source, target), (target, source)];
    let mut buffer = [0; MTU];
    while !shared.is_over.load(Ordering::Relaxed) {
        let mut state = shared.state();
        let mut sleep = LOOK_EVERY;
        let begun = state.begun;
        for ((from, to), line) in ways.iter().zip(&mut state.lines) {
            // A device that has nothing for us says so; what else is wrong shows as packets that
            // do not arrive.
            for _ in 0..TURN {
                let Ok(n_bytes) = from.recv(&mut buffer) else { break };
                line.put(begun.elapsed(), buffer.get(..n_bytes).unwrap_or_default());
            }
            while let Some(packet) = line.take(begun.elapsed()) {
                // A packet whose head was corrupted is refused here, as by a router.
                drop(to.send(&packet));
            }
            let due = line.next_due().map(|due| due.saturating_sub(begun.elapsed()));
            sleep = sleep.min(due.unwrap_or(sleep));
        }
        drop(state);
        wait(devices, sleep);
    }
}

/// Waits until a device has a packet, or so long.
fn wait(devices: &[Tun; 2], time: Duration) {
    let mut both = devices.each_ref().map(|device| PollFd::new(device, PollFlags::IN));
    let time = Timespec { tv_sec: 0, tv_nsec: i64::from(time.subsec_nanos()) };
    // An interruption only means to look again.
    poll(&mut both, Some(&time)).ok();
}
