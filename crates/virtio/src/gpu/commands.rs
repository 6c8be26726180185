//! What a guest asks of its display, and the answers.

use std::sync::Arc;

use tearless_display::{Cursor, Rect, Screen, Size};
use tearless_memory::{Gpa, GuestMemory};

use super::{
    edid::edid,
    resource::Resources,
    spec::{CURSOR_SIDE, EDID_LEN, ENTRY_LEN, FLAG_FENCE, HEADER_LEN, MAX_SCANOUTS, request, response},
};
use crate::{Chain, RingError};

/// The longest request but for the ranges of an attach request.
const MAX_REQUEST: usize = 64;

/// A request as far as it has a fixed length; zeros where the guest sent less.
struct Request([u8; MAX_REQUEST]);

impl Request {
    fn read(chain: &Chain, memory: &GuestMemory) -> Result<Option<Self>, RingError> {
        let mut bytes = [0; MAX_REQUEST];
        let len = chain.read(memory, 0, &mut bytes)?;
        Ok((len >= HEADER_LEN).then_some(Self(bytes)))
    }

    fn word(&self, offset: usize) -> u32 {
        let bytes = self.0.get(offset..offset + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes)
    }

    fn long(&self, offset: usize) -> u64 {
        u64::from(self.word(offset)) | u64::from(self.word(offset + 4)) << 32
    }

    /// Word `index` behind the header.
    fn field(&self, index: usize) -> u32 {
        self.word(HEADER_LEN + 4 * index)
    }

    /// The rectangle that begins at the header's end.
    fn rect(&self) -> Rect {
        Rect::new(self.field(0), self.field(1), self.field(2), self.field(3))
    }

    fn kind(&self) -> u32 {
        self.word(0)
    }

    /// A response of type `kind` to this.
    fn response(&self, kind: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_le_bytes().to_vec();
        let fence = self.word(4) & FLAG_FENCE;
        bytes.extend(fence.to_le_bytes());
        bytes.extend(if fence == 0 { 0 } else { self.long(8) }.to_le_bytes());
        bytes.extend(self.word(16).to_le_bytes());
        bytes.resize(HEADER_LEN, 0);
        bytes.extend(body);
        bytes
    }
}

/// What the screen shows: a part of a picture.
#[derive(Clone, Copy)]
pub(super) struct Scanout {
    pub(super) resource: u32,
    pub(super) rect: Rect,
}

/// A response's type and body, or an error's type.
type Outcome = Result<(u32, Vec<u8>), u32>;

/// The device's state as its driver made it.
pub(super) struct Display {
    pub(super) screen: Arc<Screen>,
    pub(super) resources: Resources,
    pub(super) scanout: Option<Scanout>,
}

impl Display {
    pub(super) fn new(screen: Arc<Screen>) -> Self {
        Self { screen, resources: Resources::default(), scanout: None }
    }

    /// The driver is gone.
    pub(super) fn reset(&mut self) {
        self.resources = Resources::default();
        self.scanout = None;
        self.screen.release();
    }

    /// Answers the request in `chain`.
    ///
    /// # Errors
    /// When a buffer, or a picture's memory, is not RAM.
    pub(super) fn answer(&mut self, chain: &Chain, memory: &GuestMemory) -> Result<u32, RingError> {
        let Some(request) = Request::read(chain, memory)? else { return Ok(0) };
        let outcome = match request.kind() {
            request::RESOURCE_ATTACH_BACKING => self.attach(&request, chain, memory)?,
            request::TRANSFER_TO_HOST_2D => self.transfer(&request, memory)?,
            _ => self.carry_out(&request),
        };
        let response = match outcome {
            Ok((kind, body)) => request.response(kind, &body),
            Err(error) => {
                tracing::debug!(
                    request = request.kind(),
                    error,
                    "refused what the guest asks of its display"
                );
                request.response(error, &[])
            }
        };
        Ok(chain.write(memory, 0, &response)? as u32)
    }

    fn carry_out(&mut self, request: &Request) -> Outcome {
        let done = |result: Result<(), u32>| result.map(|()| (response::OK_NODATA, Vec::new()));
        match request.kind() {
            request::GET_DISPLAY_INFO => Ok((response::OK_DISPLAY_INFO, self.display_info())),
            request::GET_EDID if request.field(0) != 0 => Err(response::ERR_INVALID_SCANOUT_ID),
            request::GET_EDID => Ok((response::OK_EDID, self.edid())),
            request::RESOURCE_CREATE_2D => {
                let size = Size::new(request.field(2), request.field(3));
                done(self.resources.create(request.field(0), request.field(1), size))
            }
            request::RESOURCE_UNREF => {
                let id = request.field(0);
                if self.scanout.is_some_and(|scanout| scanout.resource == id) {
                    self.blank();
                }
                done(self.resources.remove(id))
            }
            request::RESOURCE_DETACH_BACKING => done(self.resources.detach(request.field(0))),
            request::SET_SCANOUT => done(self.set_scanout(request)),
            request::RESOURCE_FLUSH => done(self.flush(request.field(4), request.rect())),
            request::UPDATE_CURSOR => done(self.update_cursor(request)),
            request::MOVE_CURSOR => {
                self.screen.move_cursor(request.field(1), request.field(2));
                done(Ok(()))
            }
            _ => Err(response::ERR_UNSPEC),
        }
    }

    fn display_info(&self) -> Vec<u8> {
        let size = self.screen.wish().size;
        let mut body = [0, 0, size.width, size.height, 1, 0].map(u32::to_le_bytes).concat();
        body.resize(24 * MAX_SCANOUTS, 0);
        body
    }

    fn edid(&self) -> Vec<u8> {
        let block = edid(self.screen.wish());
        let mut body = [block.len() as u32, 0].map(u32::to_le_bytes).concat();
        body.extend(block);
        body.resize(8 + EDID_LEN, 0);
        body
    }

    fn attach(
        &mut self,
        request: &Request,
        chain: &Chain,
        memory: &GuestMemory,
    ) -> Result<Outcome, RingError> {
        let (id, count) = (request.field(0), request.field(1) as usize);
        if count > self.resources.ranges_left() {
            return Ok(Err(response::ERR_OUT_OF_MEMORY));
        }
        let offset = HEADER_LEN + 8;
        if chain.readable_len() < (offset + count * ENTRY_LEN) as u64 {
            return Ok(Err(response::ERR_INVALID_PARAMETER));
        }
        let mut bytes = vec![0; count * ENTRY_LEN];
        chain.read(memory, offset as u64, &mut bytes)?;
        let (entries, _) = bytes.as_chunks::<ENTRY_LEN>();
        let ranges = entries.iter().map(|entry| {
            let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
            let (address, length) = entry.split_at(8);
            (Gpa(number(address)), number(length) as u32)
        });
        Ok(self.resources.attach(id, ranges).map(|()| (response::OK_NODATA, Vec::new())))
    }

    fn transfer(&mut self, request: &Request, memory: &GuestMemory) -> Result<Outcome, RingError> {
        let offset = request.long(HEADER_LEN + 16);
        let result = match self.resources.get_mut(request.field(6)) {
            Ok(resource) => resource.transfer(memory, request.rect(), offset)?,
            Err(error) => Err(error),
        };
        Ok(result.map(|()| (response::OK_NODATA, Vec::new())))
    }

    fn set_scanout(&mut self, request: &Request) -> Result<(), u32> {
        let (rect, scanout, resource) = (request.rect(), request.field(4), request.field(5));
        if scanout != 0 {
            return Err(response::ERR_INVALID_SCANOUT_ID);
        }
        if resource == 0 {
            self.blank();
            return Ok(());
        }
        self.show(resource, rect)
    }

    /// Has the screen show a part of a picture.
    pub(super) fn show(&mut self, resource: u32, rect: Rect) -> Result<(), u32> {
        if rect.is_empty() || !rect.is_within(self.resources.get(resource)?.size()) {
            return Err(response::ERR_INVALID_PARAMETER);
        }
        self.scanout = Some(Scanout { resource, rect });
        self.screen.resize(rect.size());
        self.flush(resource, rect)
    }

    /// The screen is on, but black.
    fn blank(&mut self) {
        self.scanout = None;
        if let Some(size) = self.screen.size() {
            self.screen.paint(Rect::all(size), |_, _, row| row.fill(0));
        }
    }

    /// Shows what of the picture's part is on the screen.
    fn flush(&self, id: u32, rect: Rect) -> Result<(), u32> {
        let resource = self.resources.get(id)?;
        if !rect.is_within(resource.size()) {
            return Err(response::ERR_INVALID_PARAMETER);
        }
        let Some(Scanout { rect: shown, .. }) = self.scanout.filter(|s| s.resource == id) else {
            return Ok(());
        };
        let part = rect.intersection(&shown);
        if part.is_empty() {
            return Ok(());
        }
        let on_screen = Rect { x: part.x - shown.x, y: part.y - shown.y, ..part };
        self.screen.paint(on_screen, |y, x, row| {
            let from = resource.row(shown.x + x, shown.y + y, row.len());
            row.iter_mut().zip(from).for_each(|(to, pixel)| *to = pixel & 0x00ff_ffff);
        });
        Ok(())
    }

    fn update_cursor(&self, request: &Request) -> Result<(), u32> {
        let (x, y, id) = (request.field(1), request.field(2), request.field(4));
        let (hot_x, hot_y) = (request.field(5), request.field(6));
        let cursor = if id == 0 {
            Cursor { x, y, ..Cursor::default() }
        } else {
            let resource = self.resources.get(id)?;
            let size = resource.size();
            if size != Size::new(CURSOR_SIDE, CURSOR_SIDE) || hot_x >= CURSOR_SIDE || hot_y >= CURSOR_SIDE {
                return Err(response::ERR_INVALID_PARAMETER);
            }
            Cursor { x, y, hot_x, hot_y, size, pixels: resource.pixels().into() }
        };
        self.screen.set_cursor(cursor);
        Ok(())
    }
}
