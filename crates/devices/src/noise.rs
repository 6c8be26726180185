//! Repeatable noise for tests that a device takes whatever a guest does.

use tearless_bus::{IrqLine, MmioDevice};

/// A generator (xorshift).
pub struct Noise {
    state: u64,
    interesting: &'static [u64],
}

impl Noise {
    /// Noise that now and then has one of the values `interesting` (with a few bits changed) in it.
    pub fn new(interesting: &'static [u64]) -> Self {
        Self { state: 0x1234_5678_9abc_def1, interesting }
    }

    /// 64 bits.
    pub fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Often a small value, a single bit or an interesting one: what gets further than noise.
    pub fn value(&mut self) -> u64 {
        match self.below(5) {
            0 => self.below(64),
            1 => 1 << self.below(64),
            2 if !self.interesting.is_empty() => {
                let index = self.below(self.interesting.len() as u64) as usize;
                self.interesting[index] ^ self.below(3)
            }
            3 => u64::MAX,
            _ => self.next(),
        }
    }

    /// One access to a device of `size` bytes.
    pub fn access(&mut self, device: &dyn MmioDevice, size: u64) {
        let len = 1 << self.below(4);
        let align = if self.below(8) == 0 { 1 } else { len };
        let mut data = self.value().to_le_bytes();
        let data = &mut data[..len as usize];
        // Registers crowd at the beginning of each 64 KiB.
        let frame = self.below(size.div_ceil(0x1_0000)) * 0x1_0000;
        let within = if self.below(2) == 0 { self.below(0x200) } else { self.below(0x1_0000) };
        let offset = (frame + within) % (size - 8) / align * align;
        _ = if self.below(3) == 0 { device.read(offset, data) } else { device.write(offset, data) };
    }
}

#[test]
fn the_small_devices_survive_noise() {
    let uart = crate::pl011::Pl011::new(Box::new(|_: &[u8]| {}), IrqLine::detached());
    let rtc = crate::pl031::Pl031::new(IrqLine::detached());
    let gpio = crate::pl061::Pl061::new(IrqLine::detached());
    let mut noise = Noise::new(&[]);
    for _ in 0..50_000 {
        noise.access(&*uart, 0x1000);
        noise.access(&rtc, 0x1000);
        noise.access(&*gpio, 0x1000);
        let bytes = noise.next().to_le_bytes();
        assert!(tearless_bus::CharInput::push(&*uart, &bytes) <= bytes.len());
        gpio.set_input(bytes[0], bytes[1] & 1 == 1);
    }
}
