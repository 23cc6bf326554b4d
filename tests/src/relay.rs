//! A wire between two daemons that can be laid to somebody else: what an attacker with power over a
//! network does, and no more. It sees bytes and reads none.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use crate::scene::DEADLINE;

/// The wire; it is cut when it is dropped.
pub struct Relay {
    address: SocketAddr,
    plan: Arc<Plan>,
}

#[derive(Default)]
struct Plan {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Connections wait and are not carried.
    is_held: bool,
    is_cut: bool,
    /// So many connections go here, and all that come after go to the other.
    first: Option<(usize, SocketAddr)>,
    then: Option<SocketAddr>,
    /// Both ends of what is carried now, by its number.
    open: BTreeMap<usize, [TcpStream; 2]>,
    n_carried: usize,
}

impl Relay {
    /// A wire that leads to this address.
    #[must_use]
    pub fn to(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Self { address: listener.local_addr().unwrap(), plan: Arc::default() };
        relay.state().then = Some(address.parse().unwrap());
        let plan = Arc::clone(&relay.plan);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if plan.state.lock().unwrap().is_cut {
                    return;
                }
                let plan = Arc::clone(&plan);
                thread::spawn(move || plan.carry(client));
            }
        });
        relay
    }

    /// Where the wire begins.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Lets connections wait from now on, and returns when none is open.
    #[track_caller]
    pub fn hold(&self) {
        let mut state = self.state();
        state.is_held = true;
        let changed = &self.plan.changed;
        let (state, _) =
            changed.wait_timeout_while(state, DEADLINE, |state| !state.open.is_empty()).unwrap();
        assert!(state.open.is_empty(), "connections that do not end");
    }

    /// Breaks off what is carried now.
    pub fn cut(&self) {
        for stream in self.state().open.values().flatten() {
            // One that has ended meanwhile is fine.
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    /// Waits until so many connections are open; how many were carried until then.
    #[track_caller]
    pub fn wait_until_open(&self, n: usize) -> usize {
        let changed = &self.plan.changed;
        let wait = changed.wait_timeout_while(self.state(), DEADLINE, |s| s.open.len() != n);
        let (state, timeout) = wait.unwrap();
        assert!(!timeout.timed_out(), "{} connections are open, not {n}", state.open.len());
        state.n_carried
    }

    /// Carries so many connections to the first address, and all that come after to the second.
    pub fn carry(&self, n: usize, first: &str, then: &str) {
        let mut state = self.state();
        state.first = Some((n, first.parse().unwrap()));
        state.then = Some(then.parse().unwrap());
        state.is_held = false;
        drop(state);
        self.plan.changed.notify_all();
    }

    /// How many connections were carried so far.
    #[must_use]
    pub fn n_carried(&self) -> usize {
        self.state().n_carried
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.plan.state.lock().unwrap()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.state().is_cut = true;
        self.plan.changed.notify_all();
        // The listener looks up once more, and ends.
        let _woken = TcpStream::connect(self.address);
    }
}

impl Plan {
    fn carry(&self, mut client: TcpStream) {
        let state = self.state.lock().unwrap();
        let mut state = self.changed.wait_while(state, |state| state.is_held).unwrap();
        // Whoever gave up while he waited was not carried, and does not count.
        let Ok(Some(begun)) = waiting_bytes(&mut client) else { return };
        let server = match &mut state.first {
            Some((n_left @ 1.., first)) => {
                *n_left -= 1;
                Some(*first)
            }
            _ => state.then,
        };
        if state.is_cut {
            return;
        }
        state.n_carried += 1;
        let number = state.n_carried;
        let Some(Ok(server)) = server.map(TcpStream::connect) else { return };
        let (Ok(near), Ok(far)) = (client.try_clone(), server.try_clone()) else { return };
        state.open.insert(number, [near, far]);
        drop(state);
        self.changed.notify_all();
        // An end that is broken off is an end as well.
        let _ended = both_ways(client, server, &begun);
        self.state.lock().unwrap().open.remove(&number);
        self.changed.notify_all();
    }
}

/// What has come while it waited; none when the client is gone.
fn waiting_bytes(client: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    client.set_nonblocking(true)?;
    let (mut begun, mut piece) = (Vec::new(), [0; 4096]);
    let is_there = loop {
        match client.read(&mut piece) {
            Ok(0) => break false,
            Ok(n) => begun.extend_from_slice(&piece[..n]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break true,
            Err(error) => return Err(error),
        }
    };
    client.set_nonblocking(false)?;
    Ok(is_there.then_some(begun))
}

fn both_ways(mut client: TcpStream, mut server: TcpStream, begun: &[u8]) -> io::Result<()> {
    server.write_all(begun)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let there = thread::spawn(move || {
        let copied = io::copy(&mut from_client, &mut to_server);
        to_server.shutdown(Shutdown::Write).and(copied)
    });
    let back = io::copy(&mut server, &mut client);
    // The server said its last word; what the client still says reaches nobody.
    client.shutdown(Shutdown::Both).ok();
    server.shutdown(Shutdown::Both).ok();
    there.join().unwrap().and(back).map(drop)
}
