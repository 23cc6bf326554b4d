//! The retention clock against histories of the system's clock.

mod clock;
