//! Screens: what a real driver makes of them, screenshots, and mistakes.

use std::fs;

use crate::tool::Tool;

/// The head of an arm64 `Image`, and a program that writes `A` to the UART and waits for ever.
pub fn letter() -> Vec<u8> {
    let mut image = vec![0; 64];
    image[0..4].copy_from_slice(&0x1400_0010_u32.to_le_bytes());
    image[16..24].copy_from_slice(&0x1_0000_u64.to_le_bytes());
    image[56..60].copy_from_slice(b"ARM\x64");
    // mov x0, #0x09000000; mov w1, #'A'; str w1, [x0]; again: wfi; b again
    for word in [0xd2a1_2000_u32, 0x5280_0821, 0xb900_0001, 0xd503_207f, 0x17ff_ffff] {
        image.extend(word.to_le_bytes());
    }
    image
}

#[test]
fn debian_drives_the_screen_the_keyboard_and_the_pointer() {
    let script = "cat /sys/class/drm/card0-Virtual-1/modes | head -n 1; \
                  cat /sys/class/graphics/fb0/virtual_size; \
                  grep -h Tearless /proc/bus/input/devices";
    let display = ["--display", "hidden", "--display", "1024x640@2x"];
    let outcome = Tool::new().run(&[&["run"][..], &display, &["--", "sh", "-c", script]].concat());
    assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    let said = outcome.stdout.replace('\r', "");
    assert!(said.starts_with("1024x640\n1024,640\n"), "{said}");
    assert!(said.contains("\"Tearless Keyboard\"") && said.contains("\"Tearless Pointer\""), "{said}");
}

#[test]
fn a_screenshot_before_any_driver_shows_the_console() {
    let tool = Tool::new();
    let kernel = tool.file("letter.img", &letter());
    let kernel = kernel.to_str().unwrap();
    let machine = ["--kernel", kernel, "--cpus", "1", "--memory", "64M"];
    let made = tool.run(&[&["create", "vm"][..], &machine, &["--display", "640x480"]].concat());
    assert_eq!(made.status, Some(0), "{}", made.stderr);
    assert!(tool.run(&["screenshot", "vm", "x.png"]).stderr.contains("not running"));
    assert_eq!(tool.run(&["start", "vm"]).status, Some(0));
    let picture = tool.home().join("vm.png");
    let path = picture.to_str().unwrap();
    let taken = tool.run(&["screenshot", "vm", path]);
    assert_eq!(taken.status, Some(0), "{}", taken.stderr);
    let file = fs::read(&picture).unwrap();
    assert_eq!(&file[..8], b"\x89PNG\r\n\x1a\n");
    assert_eq!(&file[16..24], [0, 0, 2, 128, 0, 0, 1, 224]);
    let info = tool.run(&["info", "vm"]).stdout;
    assert!(info.contains("Screen   640x480@1x"), "{info}");
}

#[test]
fn viewers_find_the_screen_where_it_is_said_to_be() {
    let tool = Tool::new();
    let kernel = tool.file("letter.img", &letter());
    let made =
        tool.run(&["create", "vm", "--kernel", kernel.to_str().unwrap(), "--display", "vnc", "--cpus", "1"]);
    assert_eq!(made.status, Some(0), "{}", made.stderr);
    let started = tool.run(&["start", "vm"]);
    assert!(started.stderr.contains("no password"), "{}", started.stderr);
    let info: serde_json::Value = serde_json::from_str(&tool.run(&["info", "vm", "--json"]).stdout).unwrap();
    let url = info["live"]["display"].as_str().unwrap();
    let at = url.strip_prefix("vnc://").unwrap();
    let mut hello = [0; 12];
    let mut stream = std::net::TcpStream::connect(at).unwrap();
    std::io::Read::read_exact(&mut stream, &mut hello).unwrap();
    assert_eq!(&hello, b"RFB 003.008\n");
}

#[test]
fn mistakes_with_screens_are_explained() {
    let tool = Tool::new();
    for (display, why) in [
        ("tv", "give none, hidden, web, vnc"),
        ("5000x100", "sides are 64 to 4095"),
        ("800x600@9x", "scales 1 to 4"),
    ] {
        let outcome = tool.run(&["run", "--display", display, "--", "true"]);
        assert!(outcome.status != Some(0) && outcome.stderr.contains(why), "{display}: {}", outcome.stderr);
    }
    let empty = tool.file("empty", b"\n");
    let password = ["--vnc-password", empty.to_str().unwrap()];
    let outcome = tool.run(&[&["run", "--display", "vnc"][..], &password, &["--", "true"]].concat());
    assert!(outcome.stderr.contains("the first line is empty"), "{}", outcome.stderr);
    let kernel = tool.file("letter.img", &letter());
    let create = ["create", "vm", "--kernel", kernel.to_str().unwrap()];
    let made = tool.run(&[&create[..], &["--vnc-password", "/not/there"]].concat());
    assert!(made.status != Some(0) && made.stderr.contains("cannot read the password"), "{}", made.stderr);
    assert_eq!(tool.run(&create).status, Some(0));
    let long = tool.file("long", b"correct horse\n");
    for (file, why) in [(&empty, "first line is empty"), (&long, "the first 8 bytes")] {
        let outcome = tool.run(&["set", "vm", "--vnc-password", file.to_str().unwrap()]);
        assert!(outcome.status != Some(0) && outcome.stderr.contains(why), "{}", outcome.stderr);
    }
}
