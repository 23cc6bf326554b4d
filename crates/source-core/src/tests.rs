//! The source against a target in the same process: real TLS, real HTTP, simulated disk and time.

mod admin;
mod agents;
mod crash;
mod fake;
mod install;
mod pairing;
mod protect;
mod protect_faults;
mod scene;
mod skew;
mod stampede;
mod swap;
