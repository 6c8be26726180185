//! The interpreter: lowering of decoded instructions to ops, the cache of pre-decoded pages, the run loop.

pub(crate) mod op;
