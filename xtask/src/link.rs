//! A long and bad line between two network namespaces of this machine, emulated in user space,
//! since many kernels lack the scheduler that could do it: a TUN device in each namespace, and one
//! thread of ours that passes packets between them.
//!
//! What happens to a packet is decided in `line`, which is pure; sockets and clocks are in `wire`.

mod conditions;
mod line;
mod namespace;
mod wire;

pub(crate) use self::conditions::{Burst, Conditions, Cut};
pub(crate) use self::wire::{Link, obstacle};
