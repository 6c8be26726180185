//! The two small property lists.

use std::io::Cursor;

use plist::{Dictionary, Value};

use crate::{Error, Result};

/// Which virtual Mac a virtual Mac is. Two that run at once are never the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineIdentifier {
    data: Vec<u8>,
    ecid: u64,
}

impl MachineIdentifier {
    /// The identifier with this ECID, as the framework writes it.
    pub fn from_ecid(ecid: u64) -> Self {
        Self { data: identifier_data(ecid), ecid }
    }

    /// A new identifier.
    ///
    /// # Errors
    /// [`Error::Io`] when the host has no random numbers.
    pub fn random() -> Result<Self> {
        let random = getrandom::u64().map_err(|e| Error::Io {
            doing: "draw a random number from",
            path: "the host".into(),
            source: std::io::Error::other(e.to_string()),
        })?;
        // Zero is what an unset one would be.
        Ok(Self::from_ecid(random.max(1)))
    }

    /// Reads what the framework wrote, and keeps it as it is.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn from_data(data: &[u8]) -> Result<Self, String> {
        let ecid = dictionary(data)?.get("ECID").and_then(Value::as_unsigned_integer);
        let ecid = ecid.ok_or("it has no number ECID")?;
        Ok(Self { data: data.into(), ecid })
    }

    /// The bytes of the file.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The exclusive chip identification, which an installation is bound to.
    pub fn ecid(&self) -> u64 {
        self.ecid
    }

    /// The provisioning UUID that macOS shows, and by which device management and developer accounts know the Mac.
    pub fn udid(&self) -> String {
        format!("0000FE00-{:016X}", self.ecid)
    }
}

/// A binary property list with an ECID. Written here, for it is the one that must come out byte for byte: the framework
/// gives numbers of 8 bytes, or 16 where 8 would be negative, however small they are.
fn identifier_data(ecid: u64) -> Vec<u8> {
    let mut data = b"bplist00\xd1\x01\x02TECID".to_vec();
    if ecid <= i64::MAX as u64 {
        data.push(0x13);
    } else {
        data.push(0x14);
        data.extend([0; 8]);
    }
    data.extend(ecid.to_be_bytes());
    let table = data.len() as u64;
    // Where the dictionary, its key and its value begin.
    data.extend([8, 11, 16]);
    // Trailer: five unused bytes and a sort version, sizes of offsets and references, counts of objects, root, table.
    data.extend([0, 0, 0, 0, 0, 0, 1, 1]);
    [3, 0, table].iter().for_each(|number: &u64| data.extend(number.to_be_bytes()));
    data
}

/// The kind of a virtual Mac. The framework makes it; it is kept as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HardwareModel {
    data: Vec<u8>,
    platform: u64,
    minimum: Vec<u64>,
}

impl HardwareModel {
    /// Reads what the framework wrote, and keeps it as it is.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn from_data(data: &[u8]) -> Result<Self, String> {
        let fields = dictionary(data)?;
        let platform = fields.get("PlatformVersion").and_then(Value::as_unsigned_integer);
        let platform = platform.ok_or("it has no number PlatformVersion")?;
        let minimum = fields.get("MinimumSupportedOS").and_then(Value::as_array);
        let numbers = |list: &Vec<Value>| list.iter().map(Value::as_unsigned_integer).collect::<Option<_>>();
        let minimum = minimum.filter(|list| list.len() <= 4).and_then(numbers);
        Ok(Self { data: data.into(), platform, minimum: minimum.ok_or("it has no MinimumSupportedOS")? })
    }

    /// The bytes of the file.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The platform's version; 2 for `VirtualMac2,1`.
    pub fn platform(&self) -> u64 {
        self.platform
    }

    /// The oldest macOS of the host that can run it, "13.0.0".
    pub fn minimum_host(&self) -> String {
        self.minimum.iter().map(u64::to_string).collect::<Vec<_>>().join(".")
    }
}

fn dictionary(data: &[u8]) -> Result<Dictionary, String> {
    if !data.starts_with(b"bplist") {
        return Err("it is no binary property list".into());
    }
    let value = Value::from_reader(Cursor::new(data)).map_err(|e| e.to_string())?;
    value.into_dictionary().ok_or_else(|| "it is no dictionary".into())
}
