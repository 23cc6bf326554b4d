//! Tests through the routers, over real TLS on loopback.

mod flow;
mod scene;
