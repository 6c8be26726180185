//! The Linux sandbox, from the outside in.

mod calls;
mod capabilities;
mod files;

use crate::{Report, Rules};

pub(crate) fn enter(rules: &Rules) -> Report {
    let mut report = Report { enforced: Vec::new(), missing: Vec::new() };
    // Landlock needs no privileges once no new ones can be had, which it sees to; the filter comes last, for it forbids
    // the calls of the others.
    let steps = [
        ("capabilities", capabilities::drop_most()),
        ("Landlock", files::restrict(rules)),
        ("seccomp", calls::filter(rules)),
    ];
    for (name, result) in steps {
        match result {
            Ok(detail) => report.enforced.push(detail),
            Err(why) => report.missing.push(format!("{name}: {why}")),
        }
    }
    report
}
