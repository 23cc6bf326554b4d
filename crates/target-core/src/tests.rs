//! Tests through the routers, over real TLS on loopback.

mod admin;
mod calls;
mod flow;
mod matrix;
mod scene;
