//! Platform devices: GICv3 with ITS, PL011, PL031.
