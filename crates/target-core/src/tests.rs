//! Tests through the routers, over real TLS on loopback.

mod calls;
mod flow;
mod crash;
mod matrix;
mod requests;
mod scene;
