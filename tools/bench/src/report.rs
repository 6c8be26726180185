//! The table, the verdict, and the same for machines.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{
    results::{Row, geometric_mean},
    system::Versions,
    workloads::{Class, LEAST_TARGET, NATIVE_TARGET, OVERALL_TARGET, SCALING_TARGET},
};

/// Everything that was measured, as `--json` has it.
#[derive(Serialize, Deserialize)]
pub struct Results {
    pub qemu: String,
    pub versions: Versions,
    pub rows: Vec<Row>,
    /// Means and targets.
    #[serde(default)]
    pub verdicts: Vec<Verdict>,
}

impl Results {
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} is none of our results", path.display()))
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// A figure against its target.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verdict {
    pub what: String,
    pub value: f64,
    /// Of how many workloads.
    pub count: usize,
    pub target: Option<f64>,
    pub pass: Option<bool>,
    /// The slowdown over native of Tearless and of the fastest QEMU.
    pub slowdown: Option<f64>,
    pub qemu_slowdown: Option<f64>,
}

impl Verdict {
    fn at_least(what: impl Into<String>, (value, count): (f64, usize), target: Option<f64>) -> Self {
        let pass = target.map(|target| value >= target);
        Self { what: what.into(), value, count, target, pass, slowdown: None, qemu_slowdown: None }
    }
}

pub fn print_head() {
    println!(
        "{:<13} {:<12} {:>9} {:>9}  {:<24} {:>7} {:>15} {:>9} {:>9}",
        "workload", "class", "tearless", "QEMU", "best -cpu", "ratio", "(min-max)", "x native", "QEMU x n."
    );
}

pub fn print_row(row: &Row) {
    let seconds = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.3}s"));
    let times = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.2}"));
    let spread = row.spread().filter(|_| row.ratio().is_some());
    let qemu = row.best_qemu();
    println!(
        "{:<13} {:<12} {:>9} {:>9}  {:<24} {:>7} {:>15} {:>9} {:>9}{}",
        row.name,
        row.class().map_or("", Class::name),
        seconds(row.tearless.best()),
        seconds(qemu.and_then(|s| s.best())),
        qemu.map_or("-", |s| s.side.as_str()),
        times(row.ratio()),
        spread.map_or_else(String::new, |(low, high)| format!("({low:.2}-{high:.2})")),
        times(row.slowdown()),
        times(row.qemu_slowdown()),
        row.scaling().map_or_else(String::new, |s| format!("  2 vCPUs: {s:.2}x of one")),
    );
    for (side, why) in row.failures() {
        println!("              FAILED on {side}: {why}");
    }
}

/// What the figures come to, class by class and in all.
pub fn verdicts(rows: &[Row]) -> Vec<Verdict> {
    let mean = |rows: &[&Row], of: fn(&Row) -> Option<f64>| geometric_mean(rows.iter().filter_map(|r| of(r)));
    let of_rows = |what: &str, rows: &[&Row], target| {
        let verdict = Verdict::at_least(what, mean(rows, Row::ratio)?, target);
        let slowdown = mean(rows, Row::slowdown).map(|m| m.0);
        let qemu_slowdown = mean(rows, Row::qemu_slowdown).map(|m| m.0);
        Some(Verdict { slowdown, qemu_slowdown, ..verdict })
    };
    let mut list: Vec<Verdict> = Class::ALL
        .iter()
        .filter_map(|&class| {
            let rows: Vec<&Row> = rows.iter().filter(|r| r.class() == Some(class)).collect();
            of_rows(class.name(), &rows, class.target())
        })
        .collect();
    let all: Vec<&Row> = rows.iter().collect();
    list.extend(of_rows("all", &all, Some(OVERALL_TARGET)));
    let least = rows.iter().filter_map(|r| Some((r.ratio()?, r))).min_by(|a, b| f64::total_cmp(&a.0, &b.0));
    list.extend(least.map(|(ratio, row)| {
        Verdict::at_least(format!("least: {}", row.name), (ratio, 1), Some(LEAST_TARGET))
    }));
    if let Some((value, count)) = mean(&all, Row::slowdown) {
        let verdict = Verdict::at_least("slowdown over native (at most)", (value, count), None);
        list.push(Verdict { target: Some(NATIVE_TARGET), pass: Some(value <= NATIVE_TARGET), ..verdict });
    }
    // Threads that fight for one lock need not scale.
    let scaling =
        rows.iter().filter(|r| r.name != "contended").filter_map(|r| Some((r.name.clone(), r.scaling()?)));
    list.extend(scaling.map(|(name, value)| {
        Verdict::at_least(format!("2 vCPUs over 1: {name}"), (value, 1), Some(SCALING_TARGET))
    }));
    list
}

pub fn print_verdicts(verdicts: &[Verdict], rows: &[Row]) {
    println!(
        "\n{:<32} {:>3} {:>8} {:>8}  {:<5} {:>9} {:>9}",
        "geometric mean", "n", "ratio", "target", "", "x native", "QEMU x n."
    );
    let times = |value: Option<f64>| value.map_or_else(String::new, |v| format!("{v:.2}"));
    for verdict in verdicts {
        println!(
            "{:<32} {:>3} {:>8.2} {:>8}  {:<5} {:>9} {:>9}",
            verdict.what,
            verdict.count,
            verdict.value,
            times(verdict.target),
            verdict.pass.map_or("", |pass| if pass { "PASS" } else { "FAIL" }),
            times(verdict.slowdown),
            times(verdict.qemu_slowdown),
        );
    }
    let failed: Vec<&str> =
        rows.iter().filter(|r| !r.failures().is_empty()).map(|r| r.name.as_str()).collect();
    if !failed.is_empty() {
        println!("failed on some side, and left out where they have no figure: {}", failed.join(", "));
    }
}
