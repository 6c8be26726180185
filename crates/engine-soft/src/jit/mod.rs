//! The just-in-time translator: A64 to x86-64, one pass, no intermediate representation (docs/decisions/006).
//!
//! - [`asm`], [`asm_simd`]: the assembler. [`copies`]: the loads that it leaves out. [`buffer`]: memory for code, written
//!   here and executed there. [`returns`]: what the host's return predictor goes by.
//! - [`state`]: what lives in which host register. [`thunks`]: code that all blocks share.
//! - [`translate`]: from instructions to code. [`cache`]: what has been translated, and how blocks find each other.
//! - [`runtime`]: the Rust functions that generated code calls. [`lockstep`]: a comparison with the interpreter.
//!
//! Whatever has no translation is executed by the interpreter's op for it, called from generated code.

mod asm;
mod asm_simd;
#[allow(unsafe_code)]
mod buffer;
mod bulk;
#[allow(unsafe_code)]
mod cache;
mod copies;
#[allow(unsafe_code)]
mod lockstep;
#[allow(unsafe_code)]
mod page;
#[allow(unsafe_code)]
mod returns;
#[allow(unsafe_code)]
mod runtime;
mod state;
mod thunks;
mod translate;

pub(crate) use cache::{Cache as Jit, HEAD};
pub(crate) use lockstep::Lockstep;
