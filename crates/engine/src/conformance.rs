//! The conformance kit: guest snippets that every engine must run alike.
