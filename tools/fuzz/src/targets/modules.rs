//! Kernel modules.

use tearless_image::modules::{ModuleTree, index};

use crate::Input;

const NAMES: [&str; 6] = ["a.ko", "b.ko", "c.ko.xz", "d.ko.gz", "e.ko.zst", "modules.builtin"];

/// A few modules made of the input's pieces: their order, and the index of all.
pub fn modules(data: &[u8]) {
    let mut input = Input::new(data);
    let mut tree = ModuleTree::default();
    while !input.is_empty() {
        let name = input.pick(&NAMES);
        let len = input.u16().into();
        let path = match name {
            "modules.builtin" => format!("usr/lib/modules/6.1/{name}"),
            _ => format!("usr/lib/modules/6.1/kernel/{name}"),
        };
        let taken = tree.take(&path, &mut input.bytes(len));
        assert!(taken.is_ok(), "slices can be read");
    }
    _ = tree.select(["a", "b", "c", "d", "e", "absent"]);
    _ = index::build(&tree);
}
