//! The interpreter: lowering of decoded instructions to ops, the cache of pre-decoded pages, the run loop.

mod atomics;
mod crc32;
mod flow;
mod integer;
mod loadstore;
pub(crate) mod lower;
#[allow(unsafe_code)]
pub(crate) mod op;
mod width;
