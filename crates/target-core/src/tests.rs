//! Tests through the routers, over real TLS on loopback.

mod admin;
mod bounds;
mod calls;
mod content;
mod crash;
mod flow;
mod matrix;
mod replicas;
mod requests;
mod retention;
mod scene;
mod tenants;
mod wire;
