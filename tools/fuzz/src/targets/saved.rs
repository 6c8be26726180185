//! The state of a saved VM, as a stranger may have written it: what is read is taken over by devices, which are then used.

use std::sync::Arc;

use tearless_bus::{CpuWake, IrqLine, MmioDevice, MsiSink};
use tearless_devices::{
    gic::{Gic, GicConfig},
    pl011::Pl011,
    pl031::Pl031,
    pl061::Pl061,
};
use tearless_memory::{Gpa, GuestMemory};
use tearless_pci::{PciHost, PciHostConfig};
use tearless_state::{Machine, Parts, Saved, StateError};
use tearless_virtio::{
    VirtioDevice, VirtioPci,
    balloon::{Balloon, Gauge},
    console::{Console, ConsolePort},
    rng::Rng,
    vsock::{Hub, Vsock},
};

const RAM: Gpa = Gpa(0x4000_0000);
const RAM_SIZE: u64 = 0x1_0000;
const DOORBELL: Gpa = Gpa(0x0809_0040);
const MEM64: Gpa = Gpa(0x80_0000_0000);

struct NoOne;

impl CpuWake for NoOne {
    fn wake(&self, _: u32) {}
}

/// A machine without vCPUs.
struct Board {
    gic: Arc<Gic>,
    uart: Arc<Pl011>,
    rtc: Pl031,
    gpio: Arc<Pl061>,
    pci: PciHost,
}

impl Board {
    fn new() -> Option<Self> {
        let memory = GuestMemory::new(&[RAM..RAM + RAM_SIZE]).ok()?;
        let config = GicConfig { vcpus: 2, spis: 64, doorbell: Some(DOORBELL), memory: memory.clone() };
        let gic = Gic::new(config, Arc::new(NoOne));
        let pci = PciHost::new(PciHostConfig {
            mem32: Gpa(0x1000_0000)..Gpa(0x3eff_0000),
            mem64: MEM64..Gpa(2 * MEM64.0),
            buses: 1,
            intx: [3, 4, 5, 6].map(|spi| gic.irq_line(spi)),
            msi: Arc::clone(&gic) as Arc<dyn MsiSink>,
        });
        let port = ConsolePort {
            name: String::new(),
            is_console: true,
            sink: Box::new(|_: &[u8]| {}),
            on_guest_open: None,
        };
        let devices: [Arc<dyn VirtioDevice>; 4] = [
            Console::new(vec![port]).ok()?,
            Rng::new(),
            Vsock::new(Hub::new()).ok()?,
            Balloon::new(Gauge::new(0)),
        ];
        for (slot, device) in (1..).zip(devices) {
            pci.add(slot, VirtioPci::new(device, memory.clone()).ok()?).ok()?;
        }
        let uart = Pl011::new(Box::new(|_: &[u8]| {}), gic.irq_line(1));
        let (rtc, gpio) = (Pl031::new(gic.irq_line(2)), Pl061::new(IrqLine::detached()));
        Some(Self { gic, uart, rtc, gpio, pci })
    }

    fn save(&self) -> Result<Parts, StateError> {
        let mut parts = Parts::default();
        self.pci.save(&mut parts)?;
        parts.put("uart", self.uart.save()?);
        parts.put("rtc", self.rtc.save()?);
        parts.put("gpio", self.gpio.save()?);
        parts.put("gic", self.gic.save()?);
        Ok(parts)
    }

    fn restore(&self, mut parts: Parts) -> Result<(), StateError> {
        self.pci.restore(&mut parts)?;
        self.uart.restore(&parts.take("uart")?)?;
        self.rtc.restore(&parts.take("rtc")?)?;
        self.gpio.restore(&parts.take("gpio")?)?;
        self.gic.restore(&parts.take("gic")?)?;
        parts.finish()
    }
}

/// Reads a state and has a machine go on from it.
pub fn saved(data: &[u8]) {
    let Ok(saved) = Saved::from_json(data) else { return };
    let Some(board) = Board::new() else { return };
    if board.restore(saved.parts).is_err() {
        return;
    }
    board.pci.proceed(true);
    board.uart.drive();
    board.rtc.drive();
    board.gpio.drive();
    let devices: [(&dyn MmioDevice, u64); 4] = [
        (&*board.gic.distributor(), 0x1_0000),
        (&*board.gic.its(), 0x2_0000),
        (&*board.pci.window64(), 0x4000),
        (&*board.uart, 0x1000),
    ];
    for (device, size) in devices {
        for offset in (0..size).step_by(0x104) {
            _ = device.read(offset & !3, &mut [0; 4]);
            _ = device.write(offset & !3, &[0xff; 4]);
        }
    }
    assert!(board.save().is_ok(), "what was taken over can be saved again");
}

/// The state of a machine that has just been switched on.
pub fn seed() -> Option<Vec<u8>> {
    let parts = Board::new()?.save().ok()?;
    let machine = Machine { engine: "soft".into(), vcpus: 2, memory: RAM_SIZE, devices: Vec::new() };
    serde_json::to_vec(&Saved::new(machine, parts)).ok()
}
