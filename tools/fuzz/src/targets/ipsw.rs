//! What comes of IPSWs and of virtual Macs that others made.

use tearless_bundle::mac::{HardwareModel, MachineIdentifier, ecids};
use tearless_image::{
    Result,
    ipsw::{self, Catalogue, Source},
};

/// An archive in memory. Reading what is not there is a finding.
struct Bytes<'a>(&'a [u8]);

impl Source for Bytes<'_> {
    fn size(&mut self) -> Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read(&mut self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(self.0[start..][..len].to_vec())
    }
}

/// Reads an archive's manifest, and the same bytes as a catalogue.
pub fn ipsw(data: &[u8]) {
    _ = ipsw::read(&mut Bytes(data), "fuzz.ipsw");
    if let Ok(catalogue) = Catalogue::parse(data) {
        assert!(catalogue.latest().is_some());
    }
}

/// Reads the files of a virtual Mac.
pub fn virtual_mac(data: &[u8]) {
    if let Ok(identifier) = MachineIdentifier::from_data(data) {
        let again = MachineIdentifier::from_ecid(identifier.ecid());
        assert_eq!(MachineIdentifier::from_data(again.data()), Ok(again));
    }
    _ = HardwareModel::from_data(data).map(|model| model.minimum_host());
    _ = ecids(data);
}
