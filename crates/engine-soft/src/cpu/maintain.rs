//! TLB and code cache maintenance: here, and on behalf of other vCPUs.

use super::{
    CodePlace, Cpu,
    shared::{Request, TlbScope},
};
use crate::interp::op::Op;

impl Cpu {
    /// The code page that the current context maps at `target`, if it is cached: its address and ops.
    #[inline(always)]
    pub fn cached_code(&self, target: u64) -> Option<(u64, *const Op)> {
        // SAFETY: the map is one of this Cpu's Tlb, see `Cpu::select_banks`.
        unsafe { (*self.code_map).get(target) }
    }

    /// Caches that the current context maps the code page `page` to `ops`.
    pub fn enter_code(&mut self, page: u64, ops: *const Op, origin: (bool, u32)) {
        self.tlb.fill_code(self.code_map, page, ops, origin);
    }

    /// What translations of code depend on besides its bytes: the exception level in bit 0, and in bit 1 whether FPCR is not
    /// zero.
    pub fn code_mode(&self) -> u8 {
        self.el() as u8 & 1 | u8::from(self.fpcr != 0) << 1
    }

    /// The key of the current code context, and whether what was remembered under any key before is void.
    pub fn code_key(&mut self) -> (u64, bool) {
        let mode = u64::from(self.code_mode() >> 1) << 11;
        let key = mode | self.tlb.keys.current(self.el(), self.regime.asid);
        (key, std::mem::take(&mut self.tlb.keys.exhausted))
    }

    /// The code page at `va` under `key`, if it is remembered.
    pub fn code_place(&self, va: u64, key: u64) -> Option<CodePlace> {
        self.tlb.keys.place(va, key)
    }

    /// Remembers the code page at `va`.
    pub fn note_code_place(&mut self, va: u64, key: u64, origin: (bool, u32), place: CodePlace) {
        self.tlb.keys.note(va, key, self.el(), origin, place);
    }

    /// Drops all code pages. What is translated from here on knows whether there are other vCPUs: the first may have begun
    /// before the second was made.
    pub fn forget_code(&mut self) {
        self.tlb.flush_code();
        if let Some(jit) = &mut self.jit {
            jit.clear();
            jit.has_siblings(self.shared.vcpus() > 1);
        }
        self.code.clear();
        self.page_ops = std::ptr::null();
    }

    /// Carries `request` out on this vCPU. To be called only between instructions.
    pub fn forget(&mut self, request: Request) {
        match request {
            Request::Tlb(TlbScope::All) => self.flush_tlb(),
            Request::Tlb(TlbScope::Asid(asid)) => self.tlb.flush_asid(asid),
            Request::Tlb(TlbScope::Pages { va, pages, asid }) => self.tlb.flush_pages(va, pages, asid),
            Request::Code(pa) => {
                self.code.invalidate(pa);
                if let Some(jit) = &mut self.jit {
                    jit.invalidate(pa);
                }
            }
            Request::AllCode => {
                self.code.invalidate_all();
                if let Some(jit) = &mut self.jit {
                    jit.invalidate_all();
                }
                self.tlb.flush_code();
            }
            Request::Memory => {
                self.memory = self.shared.memory();
                self.clear_exclusive();
                self.flush_tlb();
                self.forget_code();
            }
        }
    }

    /// Drops all translations.
    pub fn flush_tlb(&mut self) {
        self.tlb.flush_all();
    }

    /// Carries out what other vCPUs asked for, and says so.
    pub fn drain_requests(&mut self) {
        let (requests, ticket) = self.mailbox.take();
        for request in requests {
            self.forget(request);
        }
        self.mailbox.acknowledge(ticket);
    }

    /// Carries `request` out here and asks the other vCPUs to; the next DSB waits for them.
    pub fn broadcast(&mut self, request: Request) {
        self.forget(request);
        self.shared.broadcast(request, Some(self.index), &mut self.tickets);
    }

    /// The part of DSB that waits for other vCPUs. A request of theirs that arrives meanwhile is carried out, so that
    /// two that wait for each other both go on.
    pub fn wait_for_others(&mut self) {
        if self.tickets.is_empty() {
            return;
        }
        let mut tickets = std::mem::take(&mut self.tickets);
        let shared = self.shared.clone();
        shared.wait(&mut tickets, || {
            if self.mailbox.has_requests() {
                self.drain_requests();
            }
        });
        self.tickets = tickets;
    }
}
