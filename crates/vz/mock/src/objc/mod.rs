//! What objc2, dispatch2 and block2 call: the C interfaces of libobjc2, libdispatch and the blocks runtime, as far as they are
//! called.

pub(crate) mod block;
pub(crate) mod class;
pub(crate) mod message;
pub(crate) mod object;
pub(crate) mod queue;

/// What the framework declares; written by the build script.
pub(crate) mod table {
    #![allow(non_upper_case_globals, reason = "names of the framework")]
    use super::class::{Class, Kind, Method};

    include!(concat!(env!("OUT_DIR"), "/classes.rs"));
}
