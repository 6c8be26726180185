//! TLB and code cache maintenance: here, and on behalf of other vCPUs.

use super::{
    Cpu,
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

    /// Drops all code pages.
    pub fn forget_code(&mut self) {
        self.tlb.flush_code();
        self.code.clear();
        self.page_ops = std::ptr::null();
    }

    /// Carries `request` out on this vCPU. To be called only between instructions.
    pub fn forget(&mut self, request: Request) {
        match request {
            Request::Tlb(TlbScope::All) => self.flush_tlb(),
            Request::Tlb(TlbScope::Asid(asid)) => self.tlb.flush_asid(asid),
            Request::Tlb(TlbScope::Pages { va, pages, asid }) => self.tlb.flush_pages(va, pages, asid),
            Request::Code(pa) => self.code.invalidate(pa),
            Request::AllCode => {
                self.code.invalidate_all();
                self.tlb.flush_code();
            }
            Request::Memory | Request::Everything => {
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
