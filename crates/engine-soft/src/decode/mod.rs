//! The decoder: an instruction word to an [`Insn`], pure.
