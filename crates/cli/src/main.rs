//! The `tearless` command.

fn main() {}
