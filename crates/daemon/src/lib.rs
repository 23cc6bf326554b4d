//! What every daemon needs and no backup code should see: real time, real randomness, real files,
//! and what surrounds a program that serves: its directory, configuration, log, signals and
//! secrets.
//!
//! Both programs build these once, in `main`, and hand them down as the traits of `offsite_model`.
//! The order of a start: [`process::harden`], [`config::read`], [`logging::start`],
//! [`data_dir::DataDir`], then [`private::PrivateDirectory`] for keys, and [`readiness::ready`]
//! when the listeners answer.
//!
//! **Absent:** anything about backup, peers or records (`layers`).

pub mod clock;
pub mod command;
pub mod config;
pub mod data_dir;
pub mod files;
pub mod logging;
pub mod luck;
pub mod private;
pub mod process;
pub mod quantity;
pub mod readiness;
pub mod secret;
pub mod shutdown;

pub use clock::SystemClock;
pub use data_dir::DataDir;
pub use files::SystemFiles;
pub use luck::SystemLuck;
pub use private::PrivateDirectory;
pub use secret::Secret;
pub use shutdown::Shutdown;
