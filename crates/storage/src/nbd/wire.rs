//! Numbers of the protocol, as its specification (`doc/proto.md` of the reference implementation) has them.

/// The first eight bytes of any server.
pub(super) const MAGIC: u64 = u64::from_be_bytes(*b"NBDMAGIC");
/// What follows in a server of the newer style, and begins each option.
pub(super) const OPTION_MAGIC: u64 = u64::from_be_bytes(*b"IHAVEOPT");
/// What follows in a server of the older style.
pub(super) const OLD_MAGIC: u64 = 0x0000_4202_8186_1253;
/// Begins the answer to an option.
pub(super) const ANSWER_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// Begins a request.
pub(super) const REQUEST_MAGIC: u32 = 0x2560_9513;
/// Begins a simple reply.
pub(super) const SIMPLE_MAGIC: u32 = 0x6744_6698;
/// Begins a chunk of a structured reply.
pub(super) const CHUNK_MAGIC: u32 = 0x668e_33ef;

/// Flags of the handshake; server and client use the same bits.
pub(super) mod handshake {
    pub const FIXED_NEWSTYLE: u16 = 1 << 0;
    pub const NO_ZEROES: u16 = 1 << 1;
}

/// Options.
pub(super) mod option {
    pub const EXPORT_NAME: u32 = 1;
    pub const ABORT: u32 = 2;
    pub const GO: u32 = 7;
    pub const STRUCTURED_REPLY: u32 = 8;
}

/// Answers to options.
pub(super) mod answer {
    pub const ACK: u32 = 1;
    pub const INFO: u32 = 3;
    pub const ERROR: u32 = 1 << 31;
    pub const UNSUPPORTED: u32 = ERROR | 1;
    pub const POLICY: u32 = ERROR | 2;
    pub const TLS_REQUIRED: u32 = ERROR | 5;
    pub const UNKNOWN: u32 = ERROR | 6;
    pub const SHUTDOWN: u32 = ERROR | 7;
}

/// Kinds of information about an export.
pub(super) mod info {
    pub const EXPORT: u16 = 0;
    pub const BLOCK_SIZE: u16 = 3;
}

/// Flags of an export.
pub(super) mod export {
    pub const READ_ONLY: u16 = 1 << 1;
    pub const FLUSH: u16 = 1 << 2;
    pub const FUA: u16 = 1 << 3;
    pub const TRIM: u16 = 1 << 5;
    pub const WRITE_ZEROES: u16 = 1 << 6;
    /// Those that make a difference to us.
    pub const USED: u16 = READ_ONLY | FLUSH | FUA | TRIM | WRITE_ZEROES;
}

/// Requests.
pub(super) mod command {
    pub const READ: u16 = 0;
    pub const WRITE: u16 = 1;
    pub const DISCONNECT: u16 = 2;
    pub const FLUSH: u16 = 3;
    pub const TRIM: u16 = 4;
    pub const WRITE_ZEROES: u16 = 6;
    /// Durable when it completes.
    pub const FUA: u16 = 1 << 0;
    /// Zeros must take room.
    pub const NO_HOLE: u16 = 1 << 1;
}

/// Chunks of structured replies.
pub(super) mod chunk {
    /// The last one of its reply.
    pub const DONE: u16 = 1 << 0;
    pub const NONE: u16 = 0;
    pub const DATA: u16 = 1;
    pub const HOLE: u16 = 2;
    pub const ERROR: u16 = 1 << 15;
}

/// Errors of requests.
pub(super) mod error {
    pub const NOT_PERMITTED: u32 = 1;
    pub const NO_SPACE: u32 = 28;
    pub const SHUTDOWN: u32 = 108;
}
