//! EFI of a saved VM whose OS has taken over.
//!
//! Then little is left: code and tables are in the guest's memory, variables that last are in their file. What a boot loader has
//! of the host, with its events and protocols, is not saved.

use serde::{Deserialize, Serialize};
use tearless_display::{MAX_SIDE, Size};
use tearless_state::{Encoded, StateError};

use crate::{
    Firmware,
    abi::Guid,
    efi::{Efi, MAX_TABLES, Phase},
    glass::{self, Glass},
    pages::PAGE,
    runtime::Stage,
    stub::place,
    variables::SavedVariable,
};

/// The version of the format.
const VERSION: u32 = 1;
/// Runtime services (UEFI 8) that there may be: what a call in progress is of.
const MAX_NUMBER: u16 = 64;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedEfi {
    /// Where the region for the OS's calls is, and where the OS has mapped it.
    base: u64,
    runtime_base: u64,
    /// The configuration table.
    tables: Vec<([u8; 16], u64)>,
    /// The monotonic counter.
    count: u64,
    stage: SavedStage,
    /// The frame buffer: where, and its size. It may be what the guest shows until its driver takes the screen over.
    glass: Option<(u64, (u32, u32))>,
    /// Variables that do not last.
    volatile: Vec<SavedVariable>,
}

/// The call in progress, of which there is at most one.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum SavedStage {
    Idle,
    Inputs { number: u16, x: [u64; 6] },
    Outputs { result: u64 },
}

impl Firmware {
    /// What a saved VM has of it.
    ///
    /// # Errors
    /// While a boot loader runs.
    pub fn save(&self) -> Result<Encoded, StateError> {
        let efi = self.lock();
        if efi.phase != Phase::Runtime {
            return Err(StateError::Busy(
                "its guest is still in its boot loader, whose EFI services cannot be saved".into(),
            ));
        }
        let state = SavedEfi {
            base: efi.runtime().start,
            runtime_base: efi.runtime_base,
            tables: efi.tables.iter().map(|(guid, table)| (guid.0, *table)).collect(),
            count: efi.count,
            stage: match efi.stage {
                Stage::Idle => SavedStage::Idle,
                Stage::Inputs(number, x) => SavedStage::Inputs { number, x },
                Stage::Outputs(result) => SavedStage::Outputs { result },
            },
            glass: efi.console.glass.as_ref().map(|g| (g.base(), (g.size().width, g.size().height))),
            volatile: efi.variables.volatile(),
        };
        Encoded::new(VERSION, &state)
    }

    /// Goes on from a state.
    ///
    /// # Errors
    /// When it is none that this machine's EFI can have been in.
    pub fn restore(&self, state: &Encoded) -> Result<(), StateError> {
        let saved: SavedEfi = state.decode(VERSION)?;
        let mut efi = self.lock();
        efi.check_region(saved.base)?;
        if saved.tables.len() > MAX_TABLES {
            return Err(StateError::malformed("there are too many configuration tables"));
        }
        let stage = match saved.stage {
            SavedStage::Inputs { number, .. } if number >= MAX_NUMBER => {
                return Err(StateError::malformed("it is in a service that there is not"));
            }
            SavedStage::Idle => Stage::Idle,
            SavedStage::Inputs { number, x } => Stage::Inputs(number, x),
            SavedStage::Outputs { result } => Stage::Outputs(result),
        };
        if let Some((base, (width, height))) = saved.glass {
            efi.show_glass(base, Size::new(width, height))?;
        }
        efi.variables.put_volatile(saved.volatile)?;
        efi.take_over(
            saved.base,
            saved.tables.into_iter().map(|(guid, table)| (Guid(guid), table)).collect(),
        );
        (efi.runtime_base, efi.count, efi.stage) = (saved.runtime_base, saved.count, stage);
        Ok(())
    }
}

impl Efi {
    /// Shows the frame buffer at `base` again.
    fn show_glass(&mut self, base: u64, size: Size) -> Result<(), StateError> {
        let ram = self.pages.ram();
        let len = glass::bytes(&[size]);
        let end = base.checked_add(len);
        let fits = size.width <= MAX_SIDE && size.height <= MAX_SIDE && len > 0 && base.is_multiple_of(PAGE);
        if !fits || base < ram.start || end.is_none_or(|end| end > ram.end) {
            return Err(StateError::malformed("its frame buffer is not in the RAM"));
        }
        if let Some(screen) = self.screen.take() {
            let glass = Glass::new(self.guest.clone(), base, vec![size], screen);
            self.console.glass =
                Some(glass.map_err(|e| StateError::Busy(format!("the screen cannot be shown: {e}")))?);
        }
        Ok(())
    }

    /// Whether the region for the OS's calls can be at `base`: in RAM, as all of it is written to.
    fn check_region(&self, base: u64) -> Result<(), StateError> {
        let ram = self.pages.ram();
        let end = base.checked_add(place::SIZE);
        if base.is_multiple_of(0x1_0000) && base >= ram.start && end.is_some_and(|end| end <= ram.end) {
            Ok(())
        } else {
            Err(StateError::malformed("its region for the OS is not in the RAM"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tearless_bus::{AccessError, MmioDevice};
    use tearless_display::{Mode, Screen};
    use tearless_memory::{Gpa, GuestMemory};

    use super::*;
    use crate::Variables;

    struct Nothing;

    impl MmioDevice for Nothing {
        fn read(&self, _: u64, data: &mut [u8]) -> Result<(), AccessError> {
            data.fill(0);
            Ok(())
        }

        fn write(&self, _: u64, _: &[u8]) -> Result<(), AccessError> {
            Ok(())
        }
    }

    fn resumed() -> Arc<Firmware> {
        let ram = Gpa(0x4000_0000)..Gpa(0x4100_0000);
        let memory = GuestMemory::new(std::slice::from_ref(&ram)).unwrap();
        let doorbell = Gpa(0x0b00_0000)..Gpa(0x0b01_0000);
        Firmware::resumed(
            memory,
            ram,
            doorbell,
            (Arc::new(Nothing), Arc::new(Variables::default()), Some(Screen::new(Mode::default()))),
        )
    }

    fn state(base: u64) -> SavedEfi {
        SavedEfi {
            base,
            runtime_base: 0xffff_0000_0000_0000,
            tables: vec![([7; 16], 0x4000_1000)],
            count: 3 << 32,
            stage: SavedStage::Outputs { result: 5 },
            glass: Some((0x4030_0000, (640, 480))),
            volatile: vec![SavedVariable { guid: [1; 16], name: vec![66], attributes: 6, data: vec![9] }],
        }
    }

    #[test]
    fn what_the_os_has_of_it_goes_on() {
        let firmware = resumed();
        let before = Encoded::new(VERSION, &state(0x4020_0000)).unwrap();
        firmware.restore(&before).unwrap();
        assert_eq!(firmware.save().unwrap(), before);
        let efi = firmware.lock();
        assert_eq!(efi.variables.get(&(Guid([1; 16]), vec![66]), true), Some((6, vec![9])));
    }

    #[test]
    fn what_could_not_have_come_about_is_refused() {
        let refused = |state: &SavedEfi| resumed().restore(&Encoded::new(VERSION, state).unwrap()).is_err();
        for base in [0, 0x4020_1000, 0x40ff_0000, 0x4100_0000, !0xffff] {
            assert!(refused(&state(base)), "{base:#x}");
        }
        let good = || state(0x4020_0000);
        assert!(refused(&SavedEfi { tables: vec![([0; 16], 0); MAX_TABLES + 1], ..good() }));
        for glass in [
            (0x40f0_0000, (640, 480)),
            (0, (1, 1)),
            (0x4030_0000, (0, 5)),
            (0x4030_0000, (4096, 1)),
            (!0xfff, (9, 9)),
        ] {
            assert!(refused(&SavedEfi { glass: Some(glass), ..good() }), "{glass:x?}");
        }
        assert!(refused(&SavedEfi { stage: SavedStage::Inputs { number: 64, x: [0; 6] }, ..good() }));
        let variable =
            |attributes, len| SavedVariable { guid: [1; 16], name: vec![66], attributes, data: vec![0; len] };
        assert!(refused(&SavedEfi { volatile: vec![variable(7, 1)], ..good() }), "one that lasts");
        assert!(refused(&SavedEfi { volatile: vec![variable(6, 1 << 20)], ..good() }));
    }
}
