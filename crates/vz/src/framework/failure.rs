//! What the framework says when it cannot, as what failed, why, and what to do.

use objc2_foundation::NSError;

/// What the framework could not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What failed.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to do.
    pub advice: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot {}\n  because: {}\n  try: {}", self.what, self.why, self.advice)
    }
}

impl std::error::Error for Failure {}

/// The domain of the framework's own errors.
const DOMAIN: &str = "VZErrorDomain";
/// How deep the causes of an error are followed.
const CAUSES: usize = 4;

impl Failure {
    /// `what` failed, for a reason that is known here.
    pub(crate) fn new(what: impl Into<String>, why: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into(), advice: advice.into() }
    }

    /// `what` failed, for what the framework says.
    pub(crate) fn of(what: impl Into<String>, error: &NSError) -> Self {
        let (domain, code) = (error.domain().to_string(), error.code());
        let mut why = error.localizedDescription().to_string();
        let reason = error.localizedFailureReason().map(|reason| reason.to_string());
        if let Some(reason) = reason.filter(|reason| !why.contains(reason.as_str())) {
            why = format!("{why} {reason}");
        }
        let mut cause = error.underlyingErrors().firstObject();
        for _ in 0..CAUSES {
            let Some(inner) = cause else { break };
            why = format!("{why} ({})", inner.localizedDescription());
            cause = inner.underlyingErrors().firstObject();
        }
        let known = (domain == DOMAIN).then(|| advice(code)).flatten();
        let advice = known.unwrap_or("tearless doctor; Console.app shows what the framework logged");
        Self::new(what, format!("{why} [{domain} {code}]"), advice)
    }
}

/// What to do about an error of the framework.
fn advice(code: isize) -> Option<&'static str> {
    Some(match code {
        1 => {
            "again; if it stays so: is the program signed with the entitlement com.apple.security.virtualization? (docs/macos.md)"
        }
        2 => "tearless info NAME, and change what the message names with tearless set",
        3 | 4 => "in a moment: the VM is just starting, stopping or being saved",
        5 => "a raw image whose size is a multiple of 512 bytes; or convert it: qemu-img convert -O raw",
        6 => "stop another macOS guest first: macOS lets two run at a time, those of other programs included",
        7 => "--net nat, or see that the interface or the program at the other end is there",
        8 => "make room on the disk that holds the VM",
        10 => "a newer macOS on this Mac, or the VM without what the message names",
        11 => "again while the VM runs; a guest in the middle of its start cannot be saved",
        12 => {
            "start it anew: tearless start --discard-state NAME; a state goes on only on the Mac, macOS and VM that it was saved on"
        }
        10001 | 10002 => "in a while, or download the IPSW by hand and name its path",
        10003 => "a newer macOS on this Mac, or an older IPSW: tearless ipsw list",
        10004 | 10005 => "another IPSW: tearless ipsw fetch latest",
        10006 => "a newer macOS on this Mac: this IPSW needs it",
        10007 => {
            "again: tearless create, with 64G of disk and a network, for the installer asks Apple's servers for signatures"
        }
        20001 | 20002 => "see that the NBD server is there and serves that export",
        30001..=30004 => "the VM without its USB disk",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_of_the_framework_has_an_advice() {
        let known = (1..=8).chain(10..=12).chain(10001..=10007).chain([20001, 20002, 30001, 30004]);
        assert!(known.into_iter().all(|code| advice(code).is_some()));
        assert_eq!(advice(9), None, "nobody is told what to do about what they cancelled");
    }
}
