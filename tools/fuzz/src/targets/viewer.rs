//! What viewers of a screen say, and what guests say on a console that is drawn, or by their desktop's agent.

use std::sync::Arc;

use tearless_display::{Agent, Clipboard, Mode, Screen, Size, remote, terminal, vnc, web};

/// Messages of a VNC viewer, one after the other.
pub fn vnc_viewer(data: &[u8]) {
    let mut rest = data;
    while vnc::Message::read(&mut rest).is_ok() {}
}

/// A message of a page in a browser or of a window, and what a window is told. What is read is written as it came.
pub fn web_page(data: &[u8]) {
    if let Some(message) = remote::Message::parse(data) {
        assert_eq!(remote::Message::parse(&message.bytes()), Some(message));
    }
    drop(remote::Hearing::parse(data));
}

/// A request of a browser.
pub fn web_request(data: &[u8]) {
    web::is_request(data);
}

/// A console as a picture.
pub fn terminal_picture(data: &[u8]) {
    let (&[width, height], text) = data.split_first_chunk().unwrap_or((&[0; 2], data));
    let size = Size::new(u32::from(width) * 4, u32::from(height) * 4);
    let (_, pixels) = terminal::render(text, Mode { size, scale: 1 });
    assert_eq!(pixels.len() as u64, size.area());
}

/// A desktop's agent that says what it likes, while a viewer copies.
pub fn desktop_agent(data: &[u8]) {
    let (clipboard, screen) = (Arc::<Clipboard>::default(), Screen::new(Mode::default()));
    let agent = Agent::new(&clipboard, &screen);
    let viewer = clipboard.join(|| ());
    agent.plug(Box::new(|bytes: &[u8]| bytes.len().min(100)));
    agent.set_open(true);
    for (i, part) in data.chunks(50).enumerate() {
        agent.hear(part);
        if i % 8 == 0 {
            viewer.copy(&i.to_string());
        }
    }
}
