//! The window that shows a screen, on an X server without a monitor; `xdotool` is its user.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use x11rb::{
    connection::Connection,
    protocol::xproto::{ConnectionExt, ImageFormat},
    rust_connection::RustConnection,
};

use crate::{
    browser::{Ended, GUEST, line},
    display::letter,
    tool::{Tool, skipped},
};

/// Only ends a test that would hang.
const PATIENCE: Duration = Duration::from_secs(120);

struct Desktop {
    _server: Ended,
    name: String,
    connection: RustConnection,
}

impl Desktop {
    /// One of its own; `None` where there is no X server, or nobody to use it.
    fn start() -> Option<Self> {
        Command::new("xdotool").arg("version").stdout(Stdio::null()).status().ok()?;
        let server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "1400x900x24", "-nolisten", "tcp"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut server = Ended(server);
        // It says so when it is up.
        let mut number = String::new();
        BufReader::new(server.0.stdout.take()?).read_line(&mut number).ok()?;
        let name = format!(":{}", number.trim());
        let (connection, _) = x11rb::connect(Some(&name)).unwrap();
        Some(Self { _server: server, name, connection })
    }

    /// Has its user do something.
    fn act(&self, args: &[&str]) {
        let status =
            Command::new("xdotool").args(args).env("DISPLAY", &self.name).stdout(Stdio::null()).status();
        assert!(status.unwrap().success(), "xdotool {args:?}");
    }

    /// Waits until no window has this name: one that is about to close would get what is meant for the next.
    fn wait_closed(&self, name: &str) {
        let begun = Instant::now();
        let search = || {
            let mut xdotool = Command::new("xdotool");
            xdotool.args(["search", "--name", name]).env("DISPLAY", &self.name).stdout(Stdio::null());
            xdotool.status().unwrap().success()
        };
        while search() {
            assert!(begun.elapsed() < PATIENCE, "{name} never closes");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Whether something of this colour, within a little, is to be seen.
    fn shows(&self, wanted: [u8; 3]) -> bool {
        let root = self.connection.setup().roots[0].root;
        let picture = self.connection.get_image(ImageFormat::Z_PIXMAP, root, 0, 0, 1400, 900, u32::MAX);
        let picture = picture.unwrap().reply().unwrap().data;
        picture.chunks_exact(4).any(|pixel| pixel[..3].iter().zip(wanted).all(|(a, b)| a.abs_diff(b) < 3))
    }

    fn wait_for(&self, colour: [u8; 3]) {
        self.wait_until(colour, true);
    }

    fn wait_until(&self, colour: [u8; 3], shown: bool) {
        let begun = Instant::now();
        while self.shows(colour) != shown {
            assert!(begun.elapsed() < PATIENCE, "{colour:?} is always or never seen");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// What a guest's terminal writes with, and what the window asks with (blue, green, red).
const GREY: [u8; 3] = [0xaa; 3];
/// What is around a picture that is not as large as the window.
const BORDER: [u8; 3] = [0x20; 3];
const PANEL: [u8; 3] = [0x38, 0x30, 0x30];

#[test]
fn what_is_typed_and_clicked_in_a_window_reaches_the_guest() {
    let Some(desktop) = Desktop::start() else {
        return skipped("there is no Xvfb or xdotool here; apt-get install xvfb xdotool");
    };
    let tool = Tool::new();
    let mut child = tool
        .command(["run", "--display", "window", "--", "sh", "-c", GUEST])
        .env("DISPLAY", &desktop.name)
        .env_remove("WAYLAND_DISPLAY")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdout, mut stderr) =
        (BufReader::new(child.stdout.take().unwrap()), child.stderr.take().unwrap());
    let mut vm = Ended(child);
    let rest = thread::spawn(move || {
        let mut said = String::new();
        stderr.read_to_string(&mut said).map(|_| said)
    });
    assert_eq!(line(&mut stdout), "ready");
    // Its driver has made its screen as large as the window.
    desktop.wait_until(BORDER, false);
    // There is no window manager to give it the keys.
    desktop.act(&["search", "--sync", "--name", "^tearless", "windowfocus", "--sync"]);
    desktop.act(&["key", "--delay", "20", "m", "o", "i", "1", "Return"]);
    assert_eq!(line(&mut stdout), "typed moi1");
    desktop.act(&["mousemove", "300", "200", "click", "1"]);
    assert_eq!(line(&mut stdout), "clicked");
    desktop.wait_for(GREY);
    // All keys are the guest's, and then not any more: the window hears its own ones either way.
    desktop.act(&["key", "ctrl+alt+g"]);
    desktop.act(&["search", "--sync", "--name", "gives the keyboard back"]);
    desktop.act(&["key", "ctrl+alt+q"]);
    desktop.wait_for(PANEL);
    desktop.act(&["search", "--sync", "--name", "^tearless$", "windowfocus", "--sync"]);
    desktop.act(&["key", "p"]);
    assert_eq!(vm.0.wait().unwrap().code(), Some(0), "{}", rest.join().unwrap().unwrap());
}

#[test]
fn a_window_can_be_closed_and_opened_again() {
    let tool = Tool::new();
    let kernel = tool.file("letter.img", &letter());
    let kernel = ["--kernel", kernel.to_str().unwrap(), "--cpus", "1", "--memory", "64M"];
    let made = tool.run(&[&["create", "vm"][..], &kernel, &["--display", "window"]].concat());
    assert_eq!(made.status, Some(0), "{}", made.stderr);
    let mut start = tool.command(["start", "vm"]);
    let start = crate::tool::finish({
        start.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        start
    });
    assert!(start.status != Some(0) && start.stderr.contains("cannot open a window"), "{}", start.stderr);

    let Some(desktop) = Desktop::start() else {
        return skipped("there is no Xvfb or xdotool here; apt-get install xvfb xdotool");
    };
    let on = |args: &[&str]| {
        let mut command = tool.command(args);
        command.env("DISPLAY", &desktop.name).env_remove("WAYLAND_DISPLAY");
        command
    };
    let started = crate::tool::finish(on(&["start", "vm"]));
    assert_eq!(started.status, Some(0), "{}", started.stderr);
    desktop.act(&["search", "--sync", "--name", "^vm", "windowfocus", "--sync", "key", "ctrl+alt+q"]);
    desktop.wait_for(PANEL);
    // The VM stays when its window goes.
    desktop.act(&["key", "l"]);
    desktop.wait_closed("^vm");
    let mut window = Ended(on(&["open", "vm"]).spawn().unwrap());
    desktop.act(&["search", "--sync", "--name", "^vm", "windowfocus", "--sync", "key", "ctrl+alt+q"]);
    desktop.wait_for(PANEL);
    desktop.act(&["key", "p"]);
    assert_eq!(window.0.wait().unwrap().code(), Some(0));
    assert!(tool.run(&["screenshot", "vm", "x.png"]).stderr.contains("not running"));
}
