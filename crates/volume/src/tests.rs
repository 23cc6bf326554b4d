//! Volumes on the simulated disk.
