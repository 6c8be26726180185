//! Structure loads and stores: whole structures lie within a page, or the interpreter has them.

use super::{T0, T1, T2, Translator, width};
use crate::{
    decode::{
        Reg,
        simd::{Post, Shape, Structure},
    },
    jit::{
        asm::{Gpr, Mem, RAX, RDX, Rm},
        asm_simd::{Xmm, op},
        translate::memory::Tag,
    },
};

/// Where an access is made.
#[derive(Clone, Copy)]
struct Place {
    base: Gpr,
    at: Mem,
    bytes: i32,
}

impl Translator<'_> {
    /// Checks the access of so many bytes.
    fn structure_begin(&mut self, how: Structure, bytes: i32) -> Place {
        self.clobber_flags();
        let base = self.base(how.rn);
        let at = self.check(base, bytes, if how.load { Tag::Read } else { Tag::Write });
        Place { base, at, bytes }
    }

    /// Adds to the base register.
    fn structure_end(&mut self, how: Structure, place: Place) {
        let sum = match how.post {
            Post::None => return,
            Post::Bytes => Mem::at(place.base, place.bytes),
            Post::Reg(rm) => {
                let m = self.x_read(rm, RDX);
                Mem::indexed(place.base, m, 0, 0)
            }
        };
        let d = self.xsp_dest(how.rn, RAX);
        self.asm.lea(true, d, sum);
        self.xsp_finish(how.rn, d);
    }

    /// LD1 to LD4 and ST1 to ST4 of whole registers, structures of three elements excepted.
    pub(super) fn structure_multiple(&mut self, how: Structure, full: bool, registers: u8) -> bool {
        if how.elements == 3 {
            return false;
        }
        let width = width(full);
        let place = self.structure_begin(how, i32::from(registers) << width);
        let shape = Shape { size: how.size, width };
        if how.load || how.elements == 1 {
            for i in 0..registers {
                let at = place.at.plus(i32::from(i) << width);
                let v = (how.rt + i) & 31;
                if how.load {
                    let d = self.v_write(v);
                    self.asm.v_load(width, d, at);
                } else {
                    let s = self.v_read(v);
                    self.asm.v_store(width, at, s);
                }
            }
        }
        match (how.load, how.elements) {
            (_, 1) => {}
            (true, elements) => self.deinterleave(shape, how.rt, elements),
            (false, elements) => self.interleave(full, how.size, [how.rt, elements], place.at),
        }
        self.structure_end(how, place);
        true
    }

    /// Takes structures of two or four elements, as loaded into as many registers, apart.
    fn deinterleave(&mut self, shape: Shape, rt: Reg, elements: u8) {
        let v = [0, 1, 2, 3].map(|i| (rt + i) & 31);
        if elements == 4 {
            // Even and odd elements first, then those of these.
            self.deinterleave_two(shape, [v[0], v[1]]);
            self.deinterleave_two(shape, [v[2], v[3]]);
            self.deinterleave_two(shape, [v[0], v[2]]);
            self.deinterleave_two(shape, [v[1], v[3]]);
        } else {
            self.deinterleave_two(shape, [v[0], v[1]]);
        }
    }

    fn deinterleave_two(&mut self, shape: Shape, [even, odd]: [Reg; 2]) {
        let (n, m) = (self.v_modify(even), self.v_modify(odd));
        self.take_apart(shape, n, m, [true; 2]);
        self.cut(shape.width, n, T0);
        self.cut(shape.width, m, T1);
    }

    /// Stores two or four registers as structures.
    fn interleave(&mut self, full: bool, size: u8, [rt, elements]: [u8; 2], at: Mem) {
        let size = usize::from(size);
        let v = [0, 1, 2, 3].map(|i| (rt + i) & 31);
        if elements == 2 {
            let (n, m) = (self.v_read(v[0]), self.v_read(v[1]));
            self.zip_store(size, [n, m], at, full);
            return;
        }
        let [a, b, c, d] = v.map(|v| self.v_read(v));
        self.asm.v3(op::PUNPCKL[size], T0, a, c);
        self.asm.v3(op::PUNPCKL[size], T1, b, d);
        self.zip_store(size, [T0, T1], at, true);
        if full {
            self.asm.v3(op::PUNPCKH[size], T0, a, c);
            self.asm.v3(op::PUNPCKH[size], T1, b, d);
            self.zip_store(size, [T0, T1], at.plus(32), true);
        }
    }

    /// Stores the elements of both operands, alternating: of all of them, or of the lower halves.
    fn zip_store(&mut self, size: usize, [n, m]: [Xmm; 2], at: Mem, full: bool) {
        self.asm.v3(op::PUNPCKL[size], T2, n, m);
        self.asm.v_store(4, at, T2);
        if full {
            self.asm.v3(op::PUNPCKH[size], T2, n, m);
            self.asm.v_store(4, at.plus(16), T2);
        }
    }

    /// One element of each register.
    pub(super) fn structure_single(&mut self, how: Structure, index: u8) -> bool {
        let place = self.structure_begin(how, i32::from(how.elements) << how.size);
        for i in 0..how.elements {
            let at = place.at.plus(i32::from(i) << how.size);
            let v = (how.rt + i) & 31;
            if how.load {
                let d = self.v_modify(v);
                self.asm.v_insert(how.size, d, d, Rm::M(at), index);
            } else {
                let s = self.v_read(v);
                self.asm.v_extract(how.size, RDX, s, index);
                self.asm.store(how.size, at, RDX);
            }
        }
        self.structure_end(how, place);
        true
    }

    /// LD1R to LD4R.
    pub(super) fn structure_replicate(&mut self, how: Structure, full: bool) -> bool {
        let place = self.structure_begin(how, i32::from(how.elements) << how.size);
        for i in 0..how.elements {
            let at = place.at.plus(i32::from(i) << how.size);
            let d = self.v_write((how.rt + i) & 31);
            self.asm.v2(op::PBROADCAST[usize::from(how.size)], d, at);
            self.cut(width(full), d, d);
        }
        self.structure_end(how, place);
        true
    }
}
