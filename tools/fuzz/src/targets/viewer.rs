//! What viewers of a screen say, and what guests say on a console that is drawn.

use tearless_display::{Mode, Size, terminal, vnc::Message};

/// Messages of a VNC viewer, one after the other.
pub fn vnc(data: &[u8]) {
    let mut rest = data;
    while Message::read(&mut rest).is_ok() {}
}

/// A console as a picture.
pub fn terminal_picture(data: &[u8]) {
    let (&[width, height], text) = data.split_first_chunk().unwrap_or((&[0; 2], data));
    let size = Size::new(u32::from(width) * 4, u32::from(height) * 4);
    let (_, pixels) = terminal::render(text, Mode { size, scale: 1 });
    assert_eq!(pixels.len() as u64, size.area());
}
