//! Kernel files.

use tearless_boot::{kernel, place};
use tearless_memory::{Gpa, GuestMemory};

use crate::Input;

const RAM: Gpa = Gpa(0x4000_0000);
const RAM_SIZE: u64 = 256 << 20;

/// Recognises the kernel, places it beside a RAM disk and a device tree, and copies it there.
pub fn kernel_image(data: &[u8]) {
    // The last bytes decide on the rest, so that a kernel file is an input as it is.
    let (file, tail) = data.split_at(data.len().saturating_sub(8));
    let mut input = Input::new(tail);
    let kernel =
        match kernel::load(data.to_vec(), "kernel").or_else(|_| kernel::load(file.to_vec(), "kernel")) {
            Ok(kernel) => kernel,
            Err(error) => return assert!(!error.to_string().is_empty()),
        };
    _ = kernel.page_size();
    let ram = RAM..RAM + RAM_SIZE;
    let (initrd, dtb) = (u64::from(input.u32()) >> 3, u64::from(input.u32()) >> 10);
    let Ok(placement) = place::place(&ram, &kernel, initrd, dtb) else { return };
    let inside = |range: &std::ops::Range<Gpa>| ram.start <= range.start && range.end <= ram.end;
    assert!(inside(&placement.kernel) && inside(&placement.dtb) && ram.contains(&placement.entry));
    if let Ok(memory) = GuestMemory::new(&[ram]) {
        assert!(kernel.write(&memory, &placement).is_ok(), "placed within RAM, yet not writable there");
    }
}
