//! Tests through the routers, over real TLS on loopback.

mod calls;
mod flow;
mod matrix;
mod scene;
