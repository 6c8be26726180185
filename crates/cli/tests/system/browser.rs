//! The page that shows a screen, in a real browser: Chromium without a window, steered through its DevTools protocol.

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::{
    guest::Guest,
    tool::{Tool, skipped},
};

/// Only ends a test that would hang.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for a line on the screen's terminal and for the pointer's first button, says what came, and stays.
pub const GUEST: &str = r#"
exec 3</dev/tty1
pointer=$(dirname $(dirname $(grep -l Pointer /sys/class/input/event*/device/name)))
exec 4</dev/input/${pointer##*/}
echo ready
read line <&3
echo "typed $line"
# Event by event, until it is the button.
until dd bs=24 count=1 <&4 2>/dev/null | hexdump -ve '8/1 "%02x" "\n"' | grep -q 0100100101000000; do :; done
echo clicked
cat <&3
"#;

/// A process that is ended with the test.
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Browser {
    _process: Ended,
    socket: WebSocket<TcpStream>,
    session: Option<String>,
    last: u64,
}

impl Browser {
    /// One whose files are in `folder`; `None` where there is no Chromium.
    fn start(folder: &Path) -> Option<Self> {
        let process = Command::new("chromium")
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"])
            .arg("--remote-allow-origins=*")
            .arg(format!("--user-data-dir={}", folder.display()))
            .arg("about:blank")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let process = Ended(process);
        // It says there where it listens: the port, then the path.
        let place = folder.join("DevToolsActivePort");
        let begun = Instant::now();
        let (port, path) = loop {
            let said = std::fs::read_to_string(&place).unwrap_or_default();
            if let [port, path] = said.lines().collect::<Vec<_>>()[..] {
                break (port.to_owned(), path.to_owned());
            }
            assert!(begun.elapsed() < PATIENCE, "Chromium does not start");
            thread::sleep(Duration::from_millis(50));
        };
        let stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (socket, _) = tungstenite::client(format!("ws://127.0.0.1:{port}{path}"), stream).unwrap();
        Some(Self { _process: process, socket, session: None, last: 0 })
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(message.to_string())).unwrap();
        loop {
            let Message::Text(text) = self.socket.read().unwrap() else { continue };
            let answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == self.last {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    fn open(&mut self, url: &str) {
        let target = self.call("Target.createTarget", json!({ "url": url }))["targetId"].clone();
        let attached = self.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        self.session = attached["sessionId"].as_str().map(str::to_owned);
    }

    fn evaluate(&mut self, expression: &str) -> Value {
        self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }))["result"]["value"]
            .clone()
    }

    fn wait_for(&mut self, expression: &str) {
        let begun = Instant::now();
        while self.evaluate(expression) != json!(true) {
            if begun.elapsed() > PATIENCE {
                panic!("never true: {expression}\n{}", self.evaluate("document.body.innerText"));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn click(&mut self, (x, y): (f64, f64)) {
        for (kind, buttons) in [("mousePressed", 1), ("mouseReleased", 0)] {
            let button = json!({ "type": kind, "x": x, "y": y, "button": "left", "buttons": buttons, "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", button);
        }
    }

    fn press(&mut self, code: &str) {
        for kind in ["rawKeyDown", "keyUp"] {
            self.call("Input.dispatchKeyEvent", json!({ "type": kind, "code": code }));
        }
    }
}

pub fn line(stdout: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

#[test]
fn chromium_shows_the_screen_and_its_user_types_and_clicks_there() {
    let tool = Tool::new();
    let Some(mut browser) = Browser::start(&tool.home().join("browser")) else {
        return skipped("there is no chromium here; apt-get install chromium");
    };
    let mut child = tool
        .command(["run", "--display", "web", "--", "sh", "-c", GUEST])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdout, mut stderr) =
        (BufReader::new(child.stdout.take().unwrap()), BufReader::new(child.stderr.take().unwrap()));
    let vm = Ended(child);
    let url = loop {
        let mut line = String::new();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it does not say where the screen is");
        if let Some((_, url)) = line.trim_end().split_once("the screen is at ") {
            break url.to_owned();
        }
    };
    let rest = thread::spawn(move || stderr.read_to_end(&mut Vec::new()));
    browser.open(&url);
    assert_eq!(line(&mut stdout), "ready");
    browser.wait_for("document.getElementById('picture').width >= 640");
    let middle = browser.evaluate(
        "(() => { const r = canvas.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()",
    );
    browser.click((middle[0].as_f64().unwrap(), middle[1].as_f64().unwrap()));
    for code in ["KeyM", "KeyO", "KeyI", "Digit1", "Enter"] {
        browser.press(code);
    }
    assert_eq!(line(&mut stdout), "typed moi1");
    assert_eq!(line(&mut stdout), "clicked");
    // The terminal has shown what was typed.
    browser.wait_for(
        "paper.getImageData(0, 0, canvas.width, canvas.height).data.some((value, i) => i % 4 < 3 && value > 100)",
    );
    drop(vm);
    rest.join().unwrap().unwrap();
}

#[test]
fn a_button_of_the_page_takes_a_snapshot_and_the_guest_goes_on() {
    let tool = Tool::new();
    let Some(mut browser) = Browser::start(&tool.home().join("browser")) else {
        return skipped("there is no chromium here; apt-get install chromium");
    };
    let Guest(tool) = &Guest::with(tool, &["--display", "web"]);
    tool.succeeds(&["exec", "g", "--", "sh", "-c", "echo kept >/tmp/kept"]);
    let info: Value = serde_json::from_str(&tool.succeeds(&["info", "g", "--json"]).stdout).unwrap();
    browser.open(info["live"]["display"].as_str().unwrap_or_else(|| panic!("no address in {info}")));
    browser.wait_for("document.getElementById('phase').textContent === 'running'");
    browser.evaluate("document.querySelector('[data-act=\"5\"]').click()");
    browser.wait_for("document.getElementById('said').textContent.startsWith('took snapshot ')");
    browser.wait_for("document.getElementById('phase').textContent === 'running'");
    assert_eq!(tool.exec(&["cat", "/tmp/kept"]).stdout, "kept\n");

    let list: Value =
        serde_json::from_str(&tool.succeeds(&["snapshot", "list", "g", "--json"]).stdout).unwrap();
    assert_eq!((list.as_array().map(Vec::len), &list[0]["memory"]), (Some(1), &json!(true)), "{list}");
    let snapshot = list[0]["name"].as_str().unwrap();
    tool.succeeds(&["exec", "g", "--", "rm", "/tmp/kept"]);
    tool.succeeds(&["snapshot", "restore", "--stop", "g", snapshot]);
    tool.succeeds(&["start", "g", "--wait"]);
    assert_eq!(tool.exec(&["cat", "/tmp/kept"]).stdout, "kept\n");
}

#[test]
fn a_page_stays_when_its_vm_ends_and_starts_it_again() {
    let tool = Tool::new();
    let Some(mut browser) = Browser::start(&tool.home().join("browser")) else {
        return skipped("there is no chromium here; apt-get install chromium");
    };
    let guest = Guest::with(tool, &["--display", "web"]);
    let tool = &guest.0;
    let page = || tool.succeeds(&["open", "g", "--print"]).stdout;
    let url = page();
    browser.open(url.trim_end());
    let phase = |browser: &mut Browser, phase| {
        browser.wait_for(&format!("document.getElementById('phase').textContent === '{phase}'"));
    };
    let press = |browser: &mut Browser, button| {
        let found = format!(
            "[...document.querySelectorAll('#power button')].find(b => !b.hidden && b.textContent === '{button}')"
        );
        browser.evaluate(&format!("{found}.click()"));
    };
    phase(&mut browser, "running");
    browser.evaluate("look('console')");
    press(&mut browser, "Shut down");
    phase(&mut browser, "stopped");
    // What it was started without cannot be there when it is to start again.
    let initrd = tool.home().join("g.vm/Initrd");
    let away = tool.home().join("away");
    std::fs::rename(&initrd, &away).unwrap();
    press(&mut browser, "Start");
    browser.wait_for("document.getElementById('said').textContent.includes('cannot start VM g')");
    phase(&mut browser, "stopped");
    std::fs::rename(&away, &initrd).unwrap();
    press(&mut browser, "Start");
    phase(&mut browser, "running");
    browser.wait_for("document.getElementById('said').textContent === ''");
    assert_eq!(page(), url);
    assert_eq!(tool.exec(&["true"]).status, Some(0));
    press(&mut browser, "Suspend");
    phase(&mut browser, "suspended");
    // Whoever starts it elsewhere gets the page, too.
    tool.succeeds(&["resume", "g"]);
    phase(&mut browser, "running");
    assert_eq!(page(), url);
    // The console is looked at, as before.
    tool.exec(&["sh", "-c", "echo here >/dev/console"]);
    browser.wait_for("document.getElementById('console').textContent.includes('here')");
    tool.succeeds(&["stop", "g", "--force"]);
    phase(&mut browser, "stopped");
    tool.succeeds(&["delete", "g", "--force"]);
    phase(&mut browser, "disconnected");
}
