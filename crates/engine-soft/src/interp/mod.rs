//! The interpreter: lowering of decoded instructions to ops, the cache of pre-decoded pages, the run loop.

mod atomics;
#[allow(unsafe_code)]
pub(crate) mod cache;
mod crc32;
mod flow;
mod integer;
mod loadstore;
pub(crate) mod lower;
mod mops;
#[allow(unsafe_code)]
pub(crate) mod op;
#[allow(unsafe_code)]
pub(crate) mod run;
mod simd;
mod system;
#[cfg(test)]
mod tests;
mod width;
