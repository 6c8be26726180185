use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// How much of the host a VM may take from others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qos {
    /// The niceness of the VM's process: from -20, which takes precedence and needs privileges, to 19, which yields.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nice: i8,
    /// The host CPUs that it may run on; all when empty.
    #[serde(default, skip_serializing_if = "CpuList::is_all")]
    pub cpus: CpuList,
    /// What kind of CPU it is to run on, where the host has several and lets programs say so (macOS).
    #[serde(default, skip_serializing_if = "QosClass::is_default")]
    pub class: QosClass,
}

/// A kind of host CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QosClass {
    /// As the host sees fit: a VM that computes runs on the fast CPUs.
    #[default]
    Default,
    /// The frugal CPUs only, behind everything else.
    Efficiency,
}

impl QosClass {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
    fn is_default(&self) -> bool {
        *self == Self::Default
    }
}

impl FromStr for QosClass {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "default" => Ok(Self::Default),
            "efficiency" => Ok(Self::Efficiency),
            _ => Err(format!("`{text}` is no class of service; give default or efficiency")),
        }
    }
}

impl Qos {
    /// Whether nothing was asked for.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(nice: &i8) -> bool {
    *nice == 0
}

/// Host CPUs by number, as `0-3,8`; `all` for no choice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuList(Vec<u32>);

/// As many as the host's interface takes (`CPU_SETSIZE`).
const MAX_CPUS: u32 = 1024;

impl CpuList {
    /// Whether all CPUs are meant.
    pub fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// The CPUs, ascending.
    pub fn cpus(&self) -> &[u32] {
        &self.0
    }
}

impl FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::default());
        }
        let refuse = || format!("`{text}` is no list of CPUs; give one such as 0-3,8, or all");
        let number = |text: &str| text.parse::<u32>().ok().filter(|cpu| *cpu < MAX_CPUS).ok_or_else(refuse);
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(refuse());
            }
            cpus.extend(first..=last);
        }
        cpus.sort_unstable();
        cpus.dedup();
        Ok(Self(cpus))
    }
}

impl TryFrom<String> for CpuList {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<CpuList> for String {
    fn from(list: CpuList) -> Self {
        list.to_string()
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return f.write_str("all");
        }
        let runs = self.0.chunk_by(|a, b| a + 1 == *b);
        for (index, run) in runs.enumerate() {
            let comma = if index > 0 { "," } else { "" };
            match run {
                [one] => write!(f, "{comma}{one}")?,
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_read_and_the_usual_one_is_not_written() {
        let qos = Qos { class: "efficiency".parse().unwrap(), ..Qos::default() };
        let text = serde_json::to_string(&qos).unwrap();
        assert_eq!(text, r#"{"class":"efficiency"}"#);
        assert_eq!(serde_json::from_str::<Qos>(&text).unwrap(), qos);
        assert_eq!(serde_json::to_string(&Qos::default()).unwrap(), "{}");
        assert!("fast".parse::<QosClass>().is_err());
    }

    #[test]
    fn lists_of_cpus_are_read_and_written() {
        for (text, cpus, again) in [
            ("0", vec![0], "0"),
            ("3,0-2,2", vec![0, 1, 2, 3], "0-3"),
            ("1,3-4,1023", vec![1, 3, 4, 1023], "1,3-4,1023"),
            ("all", vec![], "all"),
        ] {
            let list: CpuList = text.parse().unwrap();
            assert_eq!((list.cpus(), list.to_string().as_str()), (cpus.as_slice(), again));
        }
        for bad in ["", ",", "1,", "2-1", "-1", "1-", "x", "1024", "0-4294967295", "1 2"] {
            assert!(bad.parse::<CpuList>().is_err(), "{bad}");
        }
    }
}
