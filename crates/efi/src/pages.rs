//! The memory map (UEFI 7.2): who owns each page.

use std::{collections::BTreeMap, ops::Range};

use crate::abi::{
    INVALID_PARAMETER, NOT_FOUND, OUT_OF_RESOURCES, Status, memory_attribute as attribute, memory_type,
};

pub(crate) const PAGE: u64 = 0x1000;
/// Bytes of a descriptor. More than its fields need, so that loaders that assume their size are found out everywhere.
pub(crate) const DESCRIPTOR: u64 = 48;
pub(crate) const DESCRIPTOR_VERSION: u32 = 1;
/// So many pieces the map may have: a loader has a few hundred, one that has more means to fill our memory.
const MAX_PIECES: usize = 1 << 14;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    end: u64,
    kind: u32,
}

/// Who owns each page of RAM.
pub(crate) struct PageMap {
    /// By where they start; they cover RAM without gaps, and neighbours differ.
    pieces: BTreeMap<u64, Piece>,
    ram: Range<u64>,
    mmio: Range<u64>,
    key: u64,
}

/// Where an allocation may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    Anywhere,
    /// No byte above this address.
    Below(u64),
    At(u64),
}

impl PageMap {
    /// All of `ram` is free. The OS also needs `mmio` at its calls.
    pub fn new(ram: Range<u64>, mmio: Range<u64>) -> Self {
        let ram = ram.start.next_multiple_of(PAGE)..ram.end & !(PAGE - 1);
        let pieces = BTreeMap::from([(ram.start, Piece { end: ram.end, kind: memory_type::CONVENTIONAL })]);
        Self { pieces, ram, mmio, key: 1 }
    }

    /// Where RAM is, in whole pages.
    pub fn ram(&self) -> Range<u64> {
        self.ram.clone()
    }

    /// Bytes of RAM.
    pub fn size(&self) -> u64 {
        self.ram.end - self.ram.start
    }

    /// Changes with every change of the map.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// Allocates `pages` pages at a multiple of `align`, from the top.
    pub fn allocate(&mut self, place: Where, pages: u64, align: u64, kind: u32) -> Result<u64, Status> {
        let valid = matches!(kind, 0..memory_type::MMIO | memory_type::OEM..)
            && kind != memory_type::CONVENTIONAL
            && kind != memory_type::PERSISTENT;
        if pages == 0 || !valid {
            return Err(INVALID_PARAMETER);
        }
        let len = pages.checked_mul(PAGE).ok_or(OUT_OF_RESOURCES)?;
        let start = match place {
            Where::At(start) if !start.is_multiple_of(PAGE) => return Err(INVALID_PARAMETER),
            Where::At(start) => start,
            Where::Anywhere => self.find(u64::MAX, len, align).ok_or(OUT_OF_RESOURCES)?,
            Where::Below(last) => self.find(last.saturating_add(1), len, align).ok_or(OUT_OF_RESOURCES)?,
        };
        let end = start.checked_add(len).ok_or(NOT_FOUND)?;
        self.change(start..end, kind, |old| old == memory_type::CONVENTIONAL)?;
        Ok(start)
    }

    /// The highest free place below `limit`.
    fn find(&self, limit: u64, len: u64, align: u64) -> Option<u64> {
        self.pieces.range(..limit).rev().filter(|(_, p)| p.kind == memory_type::CONVENTIONAL).find_map(
            |(&start, piece)| {
                let at = piece.end.min(limit).checked_sub(len)? & !(align.max(PAGE) - 1);
                (at >= start).then_some(at)
            },
        )
    }

    pub fn free(&mut self, start: u64, pages: u64) -> Result<(), Status> {
        let end = pages.checked_mul(PAGE).and_then(|len| start.checked_add(len));
        let end = end.filter(|_| start.is_multiple_of(PAGE) && pages > 0).ok_or(INVALID_PARAMETER)?;
        self.change(start..end, memory_type::CONVENTIONAL, |old| old != memory_type::CONVENTIONAL)
    }

    /// Gives `range` to `kind` if `may` holds for whoever owns each page of it.
    fn change(&mut self, range: Range<u64>, kind: u32, may: impl Fn(u32) -> bool) -> Result<(), Status> {
        if range.start < self.ram.start || range.end > self.ram.end {
            return Err(NOT_FOUND);
        }
        if self.pieces.len() + 2 > MAX_PIECES {
            return Err(OUT_OF_RESOURCES);
        }
        let first = self.pieces.range(..=range.start).next_back().map_or(range.start, |(start, _)| *start);
        let old: Vec<_> = self.pieces.range(first..range.end).map(|(s, p)| (*s, *p)).collect();
        if !old.iter().all(|(_, piece)| may(piece.kind)) {
            return Err(NOT_FOUND);
        }
        for (start, piece) in old {
            self.pieces.remove(&start);
            if start < range.start {
                self.pieces.insert(start, Piece { end: range.start, kind: piece.kind });
            }
            if piece.end > range.end {
                self.pieces.insert(range.end, piece);
            }
        }
        self.pieces.insert(range.start, Piece { end: range.end, kind });
        self.join(range.end);
        self.join(range.start);
        self.key += 1;
        Ok(())
    }

    /// Makes the pieces that meet at `at` one if they are of a kind.
    fn join(&mut self, at: u64) {
        let below = self.pieces.range(..at).next_back().map(|(start, piece)| (*start, *piece));
        if let (Some((start, below)), Some(&above)) = (below, self.pieces.get(&at))
            && below.kind == above.kind
        {
            self.pieces.remove(&at);
            self.pieces.insert(start, above);
        }
    }

    /// The map as `GetMemoryMap` gives it.
    pub fn descriptors(&self) -> Vec<u8> {
        let cached = attribute::UC | attribute::WC | attribute::WT | attribute::WB;
        let mmio = (self.mmio.clone(), memory_type::MMIO, attribute::UC | attribute::RUNTIME);
        let ram = self.pieces.iter().map(|(start, piece)| {
            let runtime = matches!(piece.kind, memory_type::RUNTIME_CODE | memory_type::RUNTIME_DATA);
            let attributes = if runtime { cached | attribute::RUNTIME } else { cached };
            (*start..piece.end, piece.kind, attributes)
        });
        let mut bytes = Vec::new();
        for (range, kind, attributes) in [mmio].into_iter().chain(ram) {
            let pages = (range.end - range.start) / PAGE;
            for word in [u64::from(kind), range.start, 0, pages, attributes, 0] {
                bytes.extend(word.to_le_bytes());
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RAM: Range<u64> = 0x4000_0000..0x4010_0000;

    fn map() -> PageMap {
        PageMap::new(RAM, 0x1000..0x2000)
    }

    fn pieces(map: &PageMap) -> Vec<(u64, u64, u32)> {
        map.pieces.iter().map(|(s, p)| (*s, p.end, p.kind)).collect()
    }

    #[test]
    fn allocations_come_from_the_top_and_join_again() {
        let mut map = map();
        let a = map.allocate(Where::Anywhere, 2, PAGE, memory_type::LOADER_DATA).unwrap();
        let b = map.allocate(Where::Anywhere, 1, 0x1_0000, memory_type::LOADER_CODE).unwrap();
        let c = map.allocate(Where::Below(0x4000_7fff), 8, PAGE, memory_type::LOADER_DATA).unwrap();
        assert_eq!((a, b, c), (0x400f_e000, 0x400f_0000, 0x4000_0000));
        let key = map.key();
        assert_eq!(map.allocate(Where::At(a), 1, PAGE, memory_type::LOADER_DATA), Err(NOT_FOUND));
        assert_eq!(map.allocate(Where::Anywhere, 0x1000, PAGE, 2), Err(OUT_OF_RESOURCES));
        assert_eq!(map.allocate(Where::Anywhere, u64::MAX, PAGE, 2), Err(OUT_OF_RESOURCES));
        assert_eq!(map.allocate(Where::Anywhere, 1, PAGE, memory_type::CONVENTIONAL), Err(INVALID_PARAMETER));
        assert_eq!((map.key(), map.descriptors().len() as u64), (key, 6 * DESCRIPTOR));
        for (at, pages) in [(a, 2), (b, 1), (c, 8)] {
            map.free(at, pages).unwrap();
            assert!(map.free(at, pages).is_err(), "twice");
        }
        assert_eq!(pieces(&map), [(RAM.start, RAM.end, memory_type::CONVENTIONAL)]);
    }

    proptest! {
        #[test]
        fn the_map_covers_ram_whatever_is_asked(
            steps in prop::collection::vec((0u8..4, 0u64..0x110, 0u64..0x20, 0u32..16), 0..200),
        ) {
            let mut map = map();
            for (what, page, pages, kind) in steps {
                let at = RAM.start + page * PAGE;
                let _ = match what {
                    0 => map.allocate(Where::Anywhere, pages, PAGE, kind).map(drop),
                    1 => map.allocate(Where::Below(at), pages, PAGE, kind).map(drop),
                    2 => map.allocate(Where::At(at), pages, PAGE, kind).map(drop),
                    _ => map.free(at, pages),
                };
                let list = pieces(&map);
                prop_assert_eq!((list[0].0, list[list.len() - 1].1), (RAM.start, RAM.end));
                prop_assert!(list.windows(2).all(|w| w[0].1 == w[1].0 && w[0].2 != w[1].2));
                prop_assert!(list.iter().all(|p| p.0 < p.1));
            }
        }
    }
}
