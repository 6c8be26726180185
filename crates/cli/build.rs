//! How the program is linked on Macs.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("macos") {
        // cpal refers to taps of other programs' sound, which CoreAudio has from macOS 14.2 on and nobody here uses. A strong
        // reference would keep the program from starting on older ones.
        println!("cargo:rustc-link-arg=-Wl,-weak_framework,CoreAudio");
    }
}
