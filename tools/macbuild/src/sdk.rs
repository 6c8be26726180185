//! What the linker reads of Apple's SDK: for each library its name and what it has (text-based stubs, version 4).

use std::{fs, path::Path};

use anyhow::{Context, Result};

/// A line per name: the library and what it has.
const SYMBOLS: &str = include_str!("../symbols.txt");
/// The libraries that the program is linked with: where the stub is, and where the library is on a Mac.
const LIBRARIES: [(&str, &str, &str); 18] = [
    ("System", "usr/lib/libSystem.tbd", "/usr/lib/libSystem.B.dylib"),
    ("c", "usr/lib/libc.tbd", "/usr/lib/libSystem.B.dylib"),
    ("m", "usr/lib/libm.tbd", "/usr/lib/libSystem.B.dylib"),
    ("iconv", "usr/lib/libiconv.tbd", "/usr/lib/libiconv.2.dylib"),
    ("objc", "usr/lib/libobjc.tbd", "/usr/lib/libobjc.A.dylib"),
    ("Foundation", "Foundation", "/System/Library/Frameworks/Foundation.framework/Versions/C/Foundation"),
    (
        "CoreFoundation",
        "CoreFoundation",
        "/System/Library/Frameworks/CoreFoundation.framework/Versions/A/CoreFoundation",
    ),
    ("Security", "Security", "/System/Library/Frameworks/Security.framework/Versions/A/Security"),
    ("AppKit", "AppKit", "/System/Library/Frameworks/AppKit.framework/Versions/C/AppKit"),
    (
        "Virtualization",
        "Virtualization",
        "/System/Library/Frameworks/Virtualization.framework/Versions/A/Virtualization",
    ),
    (
        "ApplicationServices",
        "ApplicationServices",
        "/System/Library/Frameworks/ApplicationServices.framework/Versions/A/ApplicationServices",
    ),
    (
        "AudioToolbox",
        "AudioToolbox",
        "/System/Library/Frameworks/AudioToolbox.framework/Versions/A/AudioToolbox",
    ),
    ("Carbon", "Carbon", "/System/Library/Frameworks/Carbon.framework/Versions/A/Carbon"),
    ("CoreAudio", "CoreAudio", "/System/Library/Frameworks/CoreAudio.framework/Versions/A/CoreAudio"),
    (
        "CoreGraphics",
        "CoreGraphics",
        "/System/Library/Frameworks/CoreGraphics.framework/Versions/A/CoreGraphics",
    ),
    ("CoreVideo", "CoreVideo", "/System/Library/Frameworks/CoreVideo.framework/Versions/A/CoreVideo"),
    ("IOSurface", "IOSurface", "/System/Library/Frameworks/IOSurface.framework/Versions/A/IOSurface"),
    ("QuartzCore", "QuartzCore", "/System/Library/Frameworks/QuartzCore.framework/Versions/A/QuartzCore"),
];

/// Writes the stubs into `folder`.
pub fn write(folder: &Path) -> Result<()> {
    for (library, place, name) in LIBRARIES {
        let place = match place.strip_suffix(".tbd") {
            Some(_) => place.to_owned(),
            None => format!("System/Library/Frameworks/{place}.framework/{place}.tbd"),
        };
        let path = folder.join(place);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(&path, stub(library, name)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn stub(library: &str, name: &str) -> String {
    let symbols: Vec<_> = SYMBOLS.lines().filter_map(|line| line.split_once(' ')).collect();
    let own: Vec<_> =
        symbols.iter().filter(|(of, _)| *of == library).map(|(_, symbol)| format!("'{symbol}'")).collect();
    let exports = match own.as_slice() {
        [] => String::new(),
        own => format!("exports:\n  - targets: [ arm64-macos ]\n    symbols: [ {} ]\n", own.join(", ")),
    };
    format!("--- !tapi-tbd\ntbd-version: 4\ntargets: [ arm64-macos ]\ninstall-name: '{name}'\n{exports}...\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_a_library() {
        for line in SYMBOLS.lines() {
            let (library, symbol) = line.split_once(' ').unwrap();
            assert!(LIBRARIES.iter().any(|(known, ..)| *known == library), "{line}");
            assert!(symbol.starts_with('_'), "{line}");
        }
        assert!(stub("objc", "/x").contains("'_objc_msgSend'"));
        assert!(!stub("Virtualization", "/x").contains("exports"));
    }
}
