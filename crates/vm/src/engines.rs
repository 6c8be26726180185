//! Which engines there are, and which of them work on this host.

use tearless_config::EngineChoice;
use tearless_engine_soft::SoftVm;

use crate::apple;

/// What an engine is good for here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The engine.
    pub engine: EngineChoice,
    /// One line about it.
    pub what: &'static str,
    /// Why it cannot be used here, or `None` when it can.
    pub missing: Option<String>,
}

/// Looks at every engine, the preferred one first.
pub fn detect() -> Vec<Report> {
    vec![
        Report {
            engine: EngineChoice::Vz,
            what: "Apple Virtualization.framework: macOS and Linux guests on Apple silicon",
            missing: apple::missing(),
        },
        Report {
            engine: EngineChoice::Hvf,
            what: "Apple Hypervisor.framework: our machine on Apple silicon",
            missing: Some(needs_mac("Hypervisor.framework")),
        },
        Report {
            engine: EngineChoice::Kvm,
            what: "KVM: our machine on ARM64 Linux hosts",
            missing: Some(kvm_missing()),
        },
        Report {
            engine: EngineChoice::Soft,
            what: "our own ARM64 CPU in software: any host",
            missing: SoftVm::supported().err(),
        },
    ]
}

/// The engine for `choice`.
///
/// # Errors
/// Says why the engine that was asked for, or every engine, is missing.
pub fn choose(choice: EngineChoice) -> Result<EngineChoice, String> {
    let reports = detect();
    match choice {
        EngineChoice::Auto => reports
            .iter()
            .find(|r| r.missing.is_none())
            .map(|r| r.engine)
            .ok_or_else(|| "no engine works on this host\n  try: `tearless doctor` says why".to_owned()),
        wanted => match reports.into_iter().find(|r| r.engine == wanted) {
            Some(Report { missing: None, .. }) => Ok(wanted),
            Some(Report { missing: Some(why), .. }) => Err(format!(
                "engine {wanted} is not available here\n  because: {why}\n  try: --engine auto; `tearless doctor` shows what works"
            )),
            None => Err(format!("there is no engine {wanted}")),
        },
    }
}

/// As [`choose`], of those that run a machine of ours.
///
/// # Errors
/// As [`choose`]; and when the engine builds machines of its own.
pub fn choose_board(choice: EngineChoice) -> Result<EngineChoice, String> {
    let boards = detect().into_iter().filter(|r| r.engine != EngineChoice::Vz);
    match choice {
        EngineChoice::Auto => boards
            .into_iter()
            .find(|r| r.missing.is_none())
            .map(|r| r.engine)
            .ok_or_else(|| "no engine works on this host\n  try: `tearless doctor` says why".to_owned()),
        wanted => choose(wanted),
    }
}

/// Why macOS guests cannot run here, in a sentence; `None` when they can.
pub fn macos_missing() -> Option<String> {
    detect().into_iter().find(|r| r.engine == EngineChoice::Vz)?.missing
}

fn needs_mac(framework: &str) -> String {
    if cfg!(all(target_os = "macos", target_arch = "aarch64")) {
        format!("this version of Tearless has no {framework} engine yet")
    } else {
        format!("{framework} exists only on Apple silicon Macs; this is {}", host())
    }
}

fn kvm_missing() -> String {
    if !cfg!(target_os = "linux") {
        format!("KVM exists only on Linux; this is {}", host())
    } else if !cfg!(target_arch = "aarch64") {
        format!("ARM64 guests need an ARM64 host's KVM; this is {}", host())
    } else {
        "this version of Tearless has no KVM engine yet".to_owned()
    }
}

fn host() -> String {
    format!("{} on {}", std::env::consts::OS, std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_takes_one_that_works_and_others_say_why_not() {
        let best = choose(EngineChoice::Auto).unwrap();
        assert!(detect().iter().any(|r| r.engine == best && r.missing.is_none()));
        for report in detect() {
            assert_eq!(choose(report.engine).is_ok(), report.missing.is_none());
        }
        if !cfg!(target_os = "macos") {
            assert!(choose(EngineChoice::Vz).unwrap_err().contains("Apple silicon"));
        }
    }
}
