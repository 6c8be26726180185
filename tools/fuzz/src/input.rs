//! Bytes as a stream of decisions.

use tearless_bus::MmioDevice;

/// Hands out the bytes of an input one after another; zeros when they are used up.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether all bytes are used up: the moment to stop.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The bytes that are left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `len` bytes, or as many as there are.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (now, later) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = later;
        now
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let bytes = self.bytes(N);
        out[..bytes.len()].copy_from_slice(bytes);
        out
    }

    /// One byte.
    pub fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    /// Two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// Four bytes.
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// Yes or no.
    pub fn flag(&mut self) -> bool {
        self.u8() & 1 != 0
    }

    /// Rarely yes.
    pub fn one_in(&mut self, n: u8) -> bool {
        self.u8().is_multiple_of(n)
    }

    /// A number below `limit`, which is not zero.
    pub fn below(&mut self, limit: u64) -> u64 {
        let value = if limit <= 256 { self.u8().into() } else { u64::from(self.u32()) };
        value % limit
    }

    /// One of `choices`, which are not empty.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// A value for a register: often small, a single bit or near the end of the range, for these get furthest.
    pub fn value(&mut self) -> u64 {
        match self.u8() % 8 {
            0 => self.u8().into(),
            1 => 1 << (self.u8() % 64),
            2 => u64::MAX - u64::from(self.u8()),
            3 => self.u16().into(),
            4 => self.u32().into(),
            5 => u64::from(u32::MAX),
            _ => self.u64(),
        }
    }

    /// One access to `device`, which covers `size` bytes: of any width, aligned or (rarely) not, as [`MmioDevice`]
    /// allows. Registers crowd at the beginning of each 64 KiB, so half of the accesses go there.
    pub fn access(&mut self, device: &dyn MmioDevice, size: u64) {
        let shape = self.u8();
        let len = 1u64 << (shape & 3);
        let frame = self.below(size.div_ceil(0x1_0000)) * 0x1_0000;
        let within = if shape & 4 == 0 { self.below(0x100) * len } else { self.u16().into() };
        let align = if shape & 0x38 == 0 { 1 } else { len };
        let offset = ((frame + within) % size / align * align).min(size - len);
        let mut data = [0; 8];
        let data = &mut data[..len as usize];
        if shape & 0xc0 == 0 {
            _ = device.read(offset, data);
        } else {
            data.copy_from_slice(&self.value().to_le_bytes()[..data.len()]);
            _ = device.write(offset, data);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tearless_bus::AccessError;

    use super::*;

    #[test]
    fn hands_out_bytes_then_zeros() {
        let mut input = Input::new(&[1, 2, 3, 4, 5]);
        assert_eq!((input.u8(), input.u16(), input.is_empty()), (1, 0x0302, false));
        assert_eq!((input.u32(), input.is_empty()), (0x0504, true));
        assert_eq!((input.u64(), input.value(), input.below(7), input.bytes(9)), (0, 0, 0, &[][..]));
    }

    /// Asserts what the contract promises a device.
    struct Strict(Mutex<[u32; 2]>);

    const SIZE: u64 = 0x2_0000;

    impl Strict {
        fn check(&self, kind: usize, offset: u64, len: usize) -> Result<(), AccessError> {
            assert!(matches!(len, 1 | 2 | 4 | 8) && offset + len as u64 <= SIZE, "{offset:#x}+{len}");
            self.0.lock().unwrap()[kind] += 1;
            Ok(())
        }
    }

    impl MmioDevice for Strict {
        fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
            self.check(0, offset, data.len())
        }
        fn write(&self, offset: u64, data: &[u8]) -> Result<(), AccessError> {
            self.check(1, offset, data.len())
        }
    }

    #[test]
    fn accesses_keep_the_contract() {
        let device = Strict(Mutex::default());
        for shape in 0..=255 {
            for fill in [0, 0x7f, 0xff] {
                let mut bytes = [fill; 16];
                bytes[0] = shape;
                Input::new(&bytes).access(&device, SIZE);
            }
        }
        assert_eq!(*device.0.lock().unwrap(), [64 * 3, 192 * 3]);
    }
}
