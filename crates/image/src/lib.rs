//! Debian mirror client, package extraction, disk image building, cache.
