//! The file allocation table.

use std::io;

use super::{Volume, damaged, le};

/// The first cluster's number.
pub(super) const FIRST: u32 = 2;
/// How much of the table is kept in memory, a multiple of 3 sectors for the entries of FAT12.
const WINDOW: u64 = 96 << 10;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bits {
    Twelve,
    Sixteen,
    ThirtyTwo,
}

pub(super) struct Table {
    bits: Bits,
    /// One above the last cluster's number.
    end: u32,
    start: u64,
    /// Bytes of one copy.
    len: u64,
    copies: u64,
    window: Vec<u8>,
    /// Where in the table the window starts, in bytes.
    window_at: Option<u64>,
    /// The last place of a chain that was asked for: chain, index, cluster.
    last: (u32, u32, u32),
    /// Where the search for free clusters goes on.
    hint: u32,
}

impl Table {
    pub fn new(clusters: u64, start: u64, len: u64, copies: u64) -> io::Result<Self> {
        let bits = match clusters {
            ..4085 => Bits::Twelve,
            4085..65525 => Bits::Sixteen,
            65525..0x0fff_fff5 => Bits::ThirtyTwo,
            _ => return Err(damaged("it has too many clusters")),
        };
        let end = clusters as u32 + FIRST;
        let table = Self {
            bits,
            end,
            start,
            len,
            copies,
            window: Vec::new(),
            window_at: None,
            last: (0, 0, 0),
            hint: FIRST,
        };
        let (at, width) = table.place(end - 1);
        if at + width > len {
            return Err(damaged("its FAT has no room for its clusters"));
        }
        Ok(table)
    }

    pub fn is_32(&self) -> bool {
        self.bits == Bits::ThirtyTwo
    }

    /// Where in the table the entry of `cluster` is, and in how many bytes.
    fn place(&self, cluster: u32) -> (u64, u64) {
        let cluster = u64::from(cluster);
        match self.bits {
            Bits::Twelve => (cluster * 3 / 2, 2),
            Bits::Sixteen => (cluster * 2, 2),
            Bits::ThirtyTwo => (cluster * 4, 4),
        }
    }

    /// The entry of `cluster`, as it lies in the table.
    fn raw(&mut self, volume: &Volume, cluster: u32) -> io::Result<u32> {
        let (at, width) = self.place(cluster);
        let window_at = at / WINDOW * WINDOW;
        if self.window_at != Some(window_at) {
            self.window_at = None;
            // Entries of FAT12 lie across the window's end never: it is a multiple of three bytes.
            self.window.resize(WINDOW.min(self.len - window_at) as usize, 0);
            volume.read(self.start + window_at, &mut self.window)?;
            self.window_at = Some(window_at);
        }
        let offset = (at - window_at) as usize;
        Ok(if width == 4 { le::<4>(&self.window, offset) } else { le::<2>(&self.window, offset) } as u32)
    }

    fn entry(&mut self, volume: &Volume, cluster: u32) -> io::Result<u32> {
        if !(FIRST..self.end).contains(&cluster) {
            return Err(damaged("a file uses a cluster that does not exist"));
        }
        let raw = self.raw(volume, cluster)?;
        Ok(match self.bits {
            Bits::Twelve if cluster % 2 == 1 => raw >> 4,
            Bits::Twelve => raw & 0xfff,
            Bits::Sixteen => raw,
            Bits::ThirtyTwo => raw & 0x0fff_ffff,
        })
    }

    fn set(&mut self, volume: &Volume, cluster: u32, value: u32) -> io::Result<()> {
        let old = self.raw(volume, cluster)?;
        let new = match self.bits {
            Bits::Twelve if cluster % 2 == 1 => old & 0xf | (value & 0xfff) << 4,
            Bits::Twelve => old & 0xf000 | value & 0xfff,
            Bits::Sixteen => value & 0xffff,
            Bits::ThirtyTwo => old & 0xf000_0000 | value & 0x0fff_ffff,
        };
        let (at, width) = self.place(cluster);
        let bytes = new.to_le_bytes();
        let bytes = bytes.get(..width as usize).unwrap_or_default();
        self.window_at = None;
        for copy in 0..self.copies {
            volume.write(self.start + copy * self.len + at, bytes)?;
        }
        self.last = (0, 0, 0);
        Ok(())
    }

    /// The cluster behind `cluster`; `None` at the end of the chain.
    pub fn next(&mut self, volume: &Volume, cluster: u32) -> io::Result<Option<u32>> {
        let end_marks = match self.bits {
            Bits::Twelve => 0xff8,
            Bits::Sixteen => 0xfff8,
            Bits::ThirtyTwo => 0x0fff_fff8,
        };
        match self.entry(volume, cluster)? {
            next if next >= end_marks => Ok(None),
            next if (FIRST..self.end).contains(&next) => Ok(Some(next)),
            _ => Err(damaged("a chain of clusters leads nowhere")),
        }
    }

    /// Cluster `index` of the chain that starts at `first`.
    pub fn nth(&mut self, volume: &Volume, first: u32, index: u32) -> io::Result<u32> {
        if index >= self.end || !(FIRST..self.end).contains(&first) {
            return Err(damaged("a chain of clusters is longer than the volume, or starts nowhere"));
        }
        let (chain, at, cluster) = self.last;
        let (mut at, mut cluster) = if chain == first && at <= index { (at, cluster) } else { (0, first) };
        while at < index {
            cluster =
                self.next(volume, cluster)?.ok_or_else(|| damaged("a chain of clusters is too short"))?;
            at += 1;
        }
        self.last = (first, at, cluster);
        Ok(cluster)
    }

    /// A chain of `count` clusters that were free; returns the first.
    pub fn allocate(&mut self, volume: &Volume, count: u32) -> io::Result<u32> {
        let mut found = Vec::new();
        let hint = self.hint;
        for cluster in (hint..self.end).chain(FIRST..hint) {
            if found.len() as u32 == count {
                break;
            }
            if self.entry(volume, cluster)? == 0 {
                found.push(cluster);
            }
        }
        let full = (found.len() as u32) < count;
        let first = found.first().copied().filter(|_| !full).ok_or(io::ErrorKind::StorageFull)?;
        let behind = found.iter().skip(1).map(|c| Some(*c)).chain([None]);
        for (&cluster, next) in found.iter().zip(behind) {
            self.set(volume, cluster, next.unwrap_or(0x0fff_ffff))?;
        }
        self.hint = found.last().map_or(FIRST, |last| last + 1).min(self.end - 1);
        Ok(first)
    }

    /// Has the chain that ends with `last` go on with `next`.
    pub fn link(&mut self, volume: &Volume, last: u32, next: u32) -> io::Result<()> {
        self.set(volume, last, next)
    }

    /// Frees the chain that starts at `first` but for its first `keep` clusters.
    pub fn cut(&mut self, volume: &Volume, first: u32, keep: u32) -> io::Result<()> {
        if first == 0 {
            return Ok(());
        }
        let mut cluster = Some(first);
        if let Some(last) = keep.checked_sub(1) {
            let last = self.nth(volume, first, last)?;
            cluster = self.next(volume, last)?;
            self.set(volume, last, 0x0fff_ffff)?;
        }
        // A chain that bites its own tail ends where it is free already.
        while let Some(this) = cluster {
            cluster = self.next(volume, this)?;
            self.set(volume, this, 0)?;
        }
        Ok(())
    }

    /// How many clusters are free.
    pub fn free(&mut self, volume: &Volume) -> io::Result<u64> {
        let mut free = 0;
        for cluster in FIRST..self.end {
            free += u64::from(self.entry(volume, cluster)? == 0);
        }
        Ok(free)
    }
}
