//! The store under power cuts, process deaths, failing disks and rot, against a model that is a
//! map.
//!
//! Test names carry the row of the requirements they show. Sizes are CI sizes; `OFFSITE_SEEDS`
//! raises the number of seeds of the power-cut test, `OFFSITE_SEED` begins elsewhere.

mod accounting;
mod collect;
mod collect_beside;
mod collect_crash;
mod collect_model;
mod collect_storm;
mod commit;
mod crash;
mod damage;
mod drafts;
mod fixture;
mod golden;
mod index;
mod layouts;
mod lists;
mod locks;
mod memory;
mod model;
mod neutral;
mod read_only;
mod rebuild;
mod scene;
mod scrub;
mod space;
mod world;
