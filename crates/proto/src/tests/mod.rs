//! Samples of every binary layout, and what must hold for each of them: golden bytes, round trip,
//! no prefix and no extension is accepted.

mod bodies;
mod golden;
mod layouts;
mod numbers;
mod rules;
