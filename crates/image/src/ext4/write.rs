//! Places the tree: numbers inodes, writes contents and folders, then the inode tables, bitmaps and superblocks.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use super::Options;
use super::layout::{
    self, BLOCK, FIRST_INODE, FLAG_EXTENTS, GROUP_BLOCKS, GROUP_INODES, Geometry, GroupUse, INODE_SIZE,
    JOURNAL_INODE, ROOT_INODE, Record, Totals, crc32c,
};
use crate::progress::Progress;
use crate::tree::{Meta, Node, NodeId, NodeKind, Tree};

const EXTENT_MAGIC: u16 = 0xf30a;
/// Extents that fit into an inode, and into a block of its own.
const INLINE_EXTENTS: usize = 4;
const BLOCK_EXTENTS: usize = 340;
/// Length of one extent of written blocks.
const EXTENT_MAX: u64 = 32768;
/// A target shorter than this lives in the inode.
const INLINE_SYMLINK: usize = 60;
/// The last bytes of a block of a folder are its checksum, dressed up as an unused entry.
const TAIL: usize = 12;

/// Why writing ended.
#[derive(Debug)]
pub(super) enum Failure {
    Io(io::Error),
    /// No room left in the file system.
    Full,
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// A run of blocks on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    start: u64,
    len: u64,
}

/// Everything about an inode but its number and meta data.
struct Inode {
    kind: u16,
    links: u32,
    size: u64,
    /// Blocks used, those of the extent tree included.
    blocks: u64,
    flags: u32,
    map: [u8; 60],
}

/// Bytes of content that a node adds to the disk.
pub(super) fn content_len(node: &Node) -> u64 {
    match node.kind {
        NodeKind::File { len, .. } => len,
        _ => 0,
    }
}

/// A folder that waits to be written, with what its entries need.
struct Folder {
    inode: u32,
    parent: u32,
    node: NodeId,
}

/// The way through the tree.
struct Walk<'a> {
    /// How many names each node has.
    links: HashMap<NodeId, u32>,
    /// The inodes of what was met; a node met again is another name of it.
    inodes: HashMap<NodeId, u32>,
    folders: Vec<Folder>,
    progress: &'a dyn Progress,
}

pub(super) struct Writer<'a> {
    file: File,
    geometry: Geometry,
    options: &'a Options,
    /// Checksum of the UUID, the start of every other checksum.
    seed: u32,
    /// Allocation only ever moves on; this is the next free block.
    next_block: u64,
    next_inode: u32,
    /// Blocks given out in each group.
    used: Vec<u64>,
    directories: Vec<u32>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(file: File, geometry: Geometry, options: &'a Options) -> Self {
        let groups = geometry.groups as usize;
        Self {
            file,
            geometry,
            options,
            seed: crc32c(u32::MAX, &options.uuid),
            next_block: geometry.first_data(0),
            next_inode: FIRST_INODE,
            used: vec![0; groups],
            directories: vec![0; groups],
        }
    }

    pub(super) fn run(&mut self, tree: &mut Tree, progress: &dyn Progress) -> Result<(), Failure> {
        let journal = self.write_journal()?;
        let lost_and_found = self.take_inode()?;
        self.write_lost_and_found(lost_and_found)?;
        let mut walk = Walk {
            links: count_links(tree),
            inodes: HashMap::from([(0, ROOT_INODE)]),
            folders: vec![Folder { inode: ROOT_INODE, parent: ROOT_INODE, node: 0 }],
            progress,
        };
        while let Some(folder) = walk.folders.pop() {
            self.write_folder(tree, &folder, &mut walk)?;
        }
        self.write_groups(&journal)?;
        self.file.sync_all()?;
        Ok(())
    }

    /// Writes a folder and all in it that is no folder; those are left to the walk.
    fn write_folder(&mut self, tree: &mut Tree, folder: &Folder, walk: &mut Walk) -> Result<(), Failure> {
        let Some(Node { kind: NodeKind::Directory(names), meta }) = tree.nodes().get(folder.node).cloned()
        else {
            return Ok(());
        };
        let mut entries = Entries::new(folder.inode, folder.parent);
        let mut subfolders = 0;
        if folder.inode == ROOT_INODE {
            entries.push(FIRST_INODE, "lost+found", FILE_TYPE_DIRECTORY);
            subfolders += 1;
        }
        for (name, id) in names {
            let Some(node) = tree.nodes().get(id).cloned() else { continue };
            let file_type = file_type(&node.kind);
            if let Some(&inode) = walk.inodes.get(&id) {
                entries.push(inode, &name, file_type);
                continue;
            }
            let inode = self.take_inode()?;
            walk.inodes.insert(id, inode);
            entries.push(inode, &name, file_type);
            if file_type == FILE_TYPE_DIRECTORY {
                subfolders += 1;
                walk.folders.push(Folder { inode, parent: folder.inode, node: id });
            } else {
                let links = walk.links.get(&id).copied().unwrap_or(1);
                self.write_node(tree, inode, &node, links)?;
                walk.progress.advance(content_len(&node));
            }
        }
        let blocks = entries.finish(self.inode_seed(folder.inode));
        self.write_directory(folder.inode, &blocks, subfolders, &meta)
    }

    fn write_node(&mut self, tree: &mut Tree, inode: u32, node: &Node, links: u32) -> Result<(), Failure> {
        let special = |kind| Inode { kind, links, size: 0, blocks: 0, flags: 0, map: [0; 60] };
        let record = match &node.kind {
            NodeKind::File { offset, len } => {
                let extents = self.allocate(len.div_ceil(BLOCK))?;
                let mut content = tree.content(*offset, *len)?;
                for extent in &extents {
                    self.copy_to(extent, &mut content)?;
                }
                self.mapped(inode, 0x8000, links, *len, &extents)?
            }
            NodeKind::Symlink(target) if target.len() < INLINE_SYMLINK => {
                let mut record = special(0xa000);
                record.size = target.len() as u64;
                record.map[..target.len()].copy_from_slice(target.as_bytes());
                record
            }
            NodeKind::Symlink(target) => {
                let extents = self.allocate(1)?;
                self.copy_to(&extents[0], &mut target.as_bytes())?;
                self.mapped(inode, 0xa000, links, target.len() as u64, &extents)?
            }
            NodeKind::CharDevice(major, minor) => {
                Inode { map: device_map(*major, *minor), ..special(0x2000) }
            }
            NodeKind::BlockDevice(major, minor) => {
                Inode { map: device_map(*major, *minor), ..special(0x6000) }
            }
            NodeKind::Fifo => special(0x1000),
            NodeKind::Directory(_) => return Ok(()),
        };
        self.write_inode(inode, &record, &node.meta)
    }

    fn write_directory(
        &mut self,
        inode: u32,
        blocks: &[Vec<u8>],
        subfolders: u32,
        meta: &Meta,
    ) -> Result<(), Failure> {
        let extents = self.allocate(blocks.len() as u64)?;
        let content = blocks.concat();
        let mut content = &content[..];
        for extent in &extents {
            self.copy_to(extent, &mut content)?;
        }
        if let Some(count) = self.directories.get_mut(((inode - 1) / GROUP_INODES) as usize) {
            *count += 1;
        }
        // A count of 1 stands for "too many to count" (dir_nlink).
        let links = if subfolders + 2 < 65000 { subfolders + 2 } else { 1 };
        let record = self.mapped(inode, 0x4000, links, blocks.len() as u64 * BLOCK, &extents)?;
        self.write_inode(inode, &record, meta)
    }

    fn write_lost_and_found(&mut self, inode: u32) -> Result<(), Failure> {
        let seed = self.inode_seed(inode);
        let mut blocks = Entries::new(inode, ROOT_INODE).finish(seed);
        // Room for what a repair finds without allocating anything then, as mke2fs leaves it.
        blocks.resize_with(4, || Entries::empty_block(seed));
        self.write_directory(inode, &blocks, 0, &Meta::root(0o700, self.options.time))
    }

    fn write_journal(&mut self) -> Result<Inode, Failure> {
        let extents = self.allocate(self.geometry.journal_blocks)?;
        if let Some(first) = extents.first() {
            let header = layout::journal_superblock(&self.geometry, &self.options.uuid);
            self.write_at(first.start * BLOCK, &header)?;
        }
        let record = self.mapped(JOURNAL_INODE, 0x8000, 1, self.geometry.journal_blocks * BLOCK, &extents)?;
        self.write_inode(JOURNAL_INODE, &record, &Meta::root(0o600, self.options.time))?;
        Ok(record)
    }

    /// An inode whose content is in extents; more than fit into it go to a block of their own.
    fn mapped(
        &mut self,
        inode: u32,
        kind: u16,
        links: u32,
        size: u64,
        extents: &[Extent],
    ) -> Result<Inode, Failure> {
        let mut blocks: u64 = extents.iter().map(|e| e.len).sum();
        let mut map = [0; 60];
        if extents.len() <= INLINE_EXTENTS {
            put_extents(&mut map, extents, INLINE_EXTENTS);
        } else if extents.len() <= BLOCK_EXTENTS {
            let index = self.allocate(1)?;
            let mut block = vec![0; BLOCK as usize];
            put_extents(&mut block, extents, BLOCK_EXTENTS);
            let checksum = crc32c(self.inode_seed(inode), &block[..BLOCK as usize - 4]);
            Record(&mut block).put32(BLOCK as usize - 4, checksum);
            self.write_at(index[0].start * BLOCK, &block)?;
            blocks += 1;
            let mut r = Record(&mut map);
            for (at, value) in [(0, EXTENT_MAGIC), (2, 1), (4, INLINE_EXTENTS as u16), (6, 1)] {
                r.put16(at, value);
            }
            r.put32(16, index[0].start as u32);
            r.put16(20, (index[0].start >> 32) as u16);
        } else {
            // 340 extents of up to 128 MiB hold 42 GiB; no package has such a file.
            return Err(Failure::Full);
        }
        Ok(Inode { kind, links, size, blocks, flags: FLAG_EXTENTS, map })
    }

    fn write_inode(&mut self, number: u32, inode: &Inode, meta: &Meta) -> Result<(), Failure> {
        let mut bytes = [0; INODE_SIZE as usize];
        let mut r = Record(&mut bytes);
        r.put16(0x00, inode.kind | meta.mode & 0o7777);
        r.put16(0x02, meta.uid as u16);
        r.put32(0x04, inode.size as u32);
        for at in [0x08, 0x0c, 0x10, 0x90] {
            r.put32(at, meta.mtime as u32);
        }
        r.put16(0x18, meta.gid as u16);
        r.put16(0x1a, inode.links as u16);
        r.put32(0x1c, (inode.blocks * (BLOCK / 512)) as u32);
        r.put32(0x20, inode.flags);
        r.put(0x28, &inode.map);
        r.put32(0x6c, (inode.size >> 32) as u32);
        r.put16(0x74, ((inode.blocks * (BLOCK / 512)) >> 32) as u16);
        r.put16(0x78, (meta.uid >> 16) as u16);
        r.put16(0x7a, (meta.gid >> 16) as u16);
        r.put16(0x80, 32); // size of the part beyond 128 bytes
        for at in [0x84, 0x88, 0x8c, 0x94] {
            r.put32(at, (meta.mtime >> 32) as u32 & 3); // seconds beyond 2038
        }
        let checksum = crc32c(self.inode_seed(number), &bytes);
        let mut r = Record(&mut bytes);
        r.put16(0x7c, checksum as u16);
        r.put16(0x82, (checksum >> 16) as u16);
        self.write_at(self.geometry.inode_offset(number), &bytes)
    }

    /// Checksums of what belongs to an inode start with this: UUID, number, generation (always 0 here).
    fn inode_seed(&self, inode: u32) -> u32 {
        crc32c(crc32c(self.seed, &inode.to_le_bytes()), &[0; 4])
    }

    fn take_inode(&mut self) -> Result<u32, Failure> {
        let inode = self.next_inode;
        if u64::from(inode) > self.geometry.inodes() {
            return Err(Failure::Full);
        }
        self.next_inode += 1;
        Ok(inode)
    }

    /// The next `count` free blocks, in as few runs as the groups' metadata allows.
    fn allocate(&mut self, mut count: u64) -> Result<Vec<Extent>, Failure> {
        let mut extents = Vec::new();
        while count > 0 {
            let group = self.next_block / GROUP_BLOCKS;
            if group >= self.geometry.groups {
                return Err(Failure::Full);
            }
            let end = Geometry::group_start(group) + self.geometry.group_len(group);
            let len = count.min(end.saturating_sub(self.next_block)).min(EXTENT_MAX);
            if len > 0 {
                extents.push(Extent { start: self.next_block, len });
                self.used[group as usize] += len;
                self.next_block += len;
                count -= len;
            }
            if self.next_block >= end {
                let next = group + 1;
                self.next_block = if next < self.geometry.groups {
                    self.geometry.first_data(next)
                } else {
                    next * GROUP_BLOCKS
                };
            }
        }
        Ok(extents)
    }

    /// Fills a run of blocks from a reader; where it ends early the rest stays a hole of zeros.
    fn copy_to(&mut self, extent: &Extent, content: &mut dyn Read) -> Result<(), Failure> {
        self.file.seek(SeekFrom::Start(self.options.start + extent.start * BLOCK))?;
        io::copy(&mut content.take(extent.len * BLOCK), &mut self.file)?;
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        self.file.seek(SeekFrom::Start(self.options.start + offset))?;
        self.file.write_all(bytes)?;
        Ok(())
    }

    fn write_groups(&mut self, journal: &Inode) -> Result<(), Failure> {
        let mut descriptors = Vec::new();
        let mut free_blocks = 0;
        for group in 0..self.geometry.groups {
            let usage = self.write_bitmaps(group)?;
            free_blocks += u64::from(usage.free_blocks);
            descriptors.extend(layout::descriptor(&self.geometry, group, &usage, self.seed));
        }
        let totals = Totals {
            free_blocks,
            free_inodes: self.geometry.inodes() - u64::from(self.next_inode - 1),
            uuid: &self.options.uuid,
            label: &self.options.label,
            time: self.options.time,
            journal_map: &journal.map,
        };
        for group in (0..self.geometry.groups).filter(|&g| Geometry::has_superblock(g)) {
            let start = Geometry::group_start(group) * BLOCK;
            // The first one leaves room for a boot sector.
            let offset = if group == 0 { 1024 } else { 0 };
            self.write_at(start + offset, &layout::superblock(&self.geometry, &totals, group))?;
            self.write_at(start + BLOCK, &descriptors)?;
        }
        Ok(())
    }

    fn write_bitmaps(&mut self, group: u64) -> Result<GroupUse, Failure> {
        let start = Geometry::group_start(group);
        let len = self.geometry.group_len(group);
        let metadata = self.geometry.first_data(group) - start;
        let used_blocks = metadata + self.used[group as usize];
        // Allocation is contiguous from the first data block on, so the used part is the front.
        let blocks = bitmap(used_blocks, len);
        let first_inode = group * u64::from(GROUP_INODES);
        let used_inodes =
            u64::from(self.next_inode - 1).saturating_sub(first_inode).min(u64::from(GROUP_INODES));
        let inodes = bitmap(used_inodes, u64::from(GROUP_INODES));
        self.write_at(self.geometry.block_bitmap(group) * BLOCK, &blocks)?;
        let inode_bytes = &inodes[..GROUP_INODES as usize / 8];
        let mut usage = GroupUse {
            free_blocks: (len - used_blocks) as u32,
            used_inodes: used_inodes as u32,
            directories: self.directories[group as usize],
            block_bitmap_checksum: crc32c(self.seed, &blocks),
            inode_bitmap_checksum: 0,
        };
        if used_inodes > 0 {
            self.write_at(self.geometry.inode_bitmap(group) * BLOCK, &inodes)?;
            usage.inode_bitmap_checksum = crc32c(self.seed, inode_bytes);
        }
        Ok(usage)
    }
}

/// A bitmap block whose first `used` of `len` bits are set; what lies beyond `len` counts as used.
fn bitmap(used: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; BLOCK as usize];
    let bits = (0..used).chain(len..BLOCK * 8);
    for bit in bits {
        bytes[(bit / 8) as usize] |= 1 << (bit % 8);
    }
    bytes
}

/// An extent header and its extents.
fn put_extents(bytes: &mut [u8], extents: &[Extent], capacity: usize) {
    let mut r = Record(bytes);
    r.put16(0, EXTENT_MAGIC);
    r.put16(2, extents.len() as u16);
    r.put16(4, capacity as u16);
    let mut logical = 0;
    for (i, extent) in extents.iter().enumerate() {
        let at = 12 + i * 12;
        r.put32(at, logical as u32);
        r.put16(at + 4, extent.len as u16);
        r.put16(at + 6, (extent.start >> 32) as u16);
        r.put32(at + 8, extent.start as u32);
        logical += extent.len;
    }
}

/// Device numbers in their old form if they fit, else in the new one.
fn device_map(major: u32, minor: u32) -> [u8; 60] {
    let mut map = [0; 60];
    if major < 256 && minor < 256 {
        Record(&mut map).put32(0, major << 8 | minor);
    } else {
        Record(&mut map).put32(4, minor & 0xff | (major & 0xfff) << 8 | (minor & !0xff) << 12);
    }
    map
}

const FILE_TYPE_DIRECTORY: u8 = 2;

fn file_type(kind: &NodeKind) -> u8 {
    match kind {
        NodeKind::File { .. } => 1,
        NodeKind::Directory(_) => FILE_TYPE_DIRECTORY,
        NodeKind::CharDevice(..) => 3,
        NodeKind::BlockDevice(..) => 4,
        NodeKind::Fifo => 5,
        NodeKind::Symlink(_) => 7,
    }
}

/// How many names each node has.
fn count_links(tree: &Tree) -> HashMap<NodeId, u32> {
    let mut links = HashMap::new();
    let mut folders = vec![0];
    while let Some(id) = folders.pop() {
        let Some(NodeKind::Directory(names)) = tree.nodes().get(id).map(|n| &n.kind) else { continue };
        for &child in names.values() {
            *links.entry(child).or_insert(0) += 1;
            if matches!(tree.nodes().get(child).map(|n| &n.kind), Some(NodeKind::Directory(_))) {
                folders.push(child);
            }
        }
    }
    links
}

/// The blocks of a folder in the making.
struct Entries {
    blocks: Vec<Vec<u8>>,
    /// Where the last entry of the last block starts.
    last: usize,
}

impl Entries {
    fn new(inode: u32, parent: u32) -> Self {
        let mut entries = Self { blocks: vec![Vec::new()], last: 0 };
        entries.push(inode, ".", FILE_TYPE_DIRECTORY);
        entries.push(parent, "..", FILE_TYPE_DIRECTORY);
        entries
    }

    fn push(&mut self, inode: u32, name: &str, file_type: u8) {
        let len = (8 + name.len()).next_multiple_of(4);
        if self.blocks.last().is_none_or(|b| b.len() + len > BLOCK as usize - TAIL) {
            self.close_block();
            self.blocks.push(Vec::new());
        }
        if let Some(block) = self.blocks.last_mut() {
            self.last = block.len();
            block.extend(inode.to_le_bytes());
            block.extend((len as u16).to_le_bytes());
            block.extend([name.len() as u8, file_type]);
            block.extend(name.as_bytes());
            block.resize(self.last + len, 0);
        }
    }

    /// Stretches the last entry to the end of the block.
    fn close_block(&mut self) {
        if let Some(block) = self.blocks.last_mut() {
            let len = BLOCK as usize - TAIL - self.last;
            block.resize(BLOCK as usize - TAIL, 0);
            Record(block).put16(self.last + 4, len as u16);
        }
    }

    fn finish(mut self, seed: u32) -> Vec<Vec<u8>> {
        self.close_block();
        for block in &mut self.blocks {
            seal(block, seed);
        }
        self.blocks
    }

    /// A block with one unused entry.
    fn empty_block(seed: u32) -> Vec<u8> {
        let mut block = vec![0; BLOCK as usize - TAIL];
        Record(&mut block).put16(4, (BLOCK as usize - TAIL) as u16);
        seal(&mut block, seed);
        block
    }
}

/// Adds the checksum that ends a block of a folder.
fn seal(block: &mut Vec<u8>, seed: u32) {
    let checksum = crc32c(seed, block);
    block.extend([0, 0, 0, 0, TAIL as u8, 0, 0, 0xde]);
    block.extend(checksum.to_le_bytes());
}
