//! The one integration binary: worlds in a seed, later whole daemons.

mod sim_seeds;
