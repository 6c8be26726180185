//! What was measured, and what follows from it.

use serde::{Deserialize, Serialize};

use crate::{
    measure::Run,
    workloads::{Class, WORKLOADS},
};

/// The runs of one workload on one side. It ends with the first failure.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Series {
    pub side: String,
    /// CPU seconds.
    pub cpu: Vec<f64>,
    /// Seconds.
    pub wall: Vec<f64>,
    /// Of a model of QEMU: the CPU seconds of the runs of Tearless that its own are paired with.
    #[serde(default)]
    pub beside: Vec<f64>,
    pub output: String,
    pub failure: Option<String>,
}

impl Series {
    pub fn new(side: &str) -> Self {
        Self { side: side.to_owned(), ..Self::default() }
    }

    pub fn add(&mut self, run: anyhow::Result<Run>) {
        match run {
            Ok(run) if run.status != 0 => self.fail(format!("exit status {}: {}", run.status, run.output)),
            Ok(run) if !self.cpu.is_empty() && run.output != self.output => {
                self.fail(format!("its rounds differ: {:?} and {:?}", self.output, run.output));
            }
            Ok(run) => {
                self.cpu.push(run.cpu.as_secs_f64());
                self.wall.push(run.wall.as_secs_f64());
                self.output = run.output;
            }
            Err(error) => self.fail(format!("{error:#}")),
        }
    }

    pub fn fail(&mut self, why: String) {
        self.failure.get_or_insert(why);
    }

    /// The least CPU time; none when a run failed.
    pub fn best(&self) -> Option<f64> {
        if self.failure.is_some() {
            return None;
        }
        self.cpu.iter().copied().reduce(f64::min)
    }

    /// The least wall-clock time.
    pub fn best_wall(&self) -> Option<f64> {
        self.wall.iter().copied().reduce(f64::min)
    }
}

/// One workload on all sides.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Row {
    pub name: String,
    pub tearless: Series,
    pub qemu: Vec<Series>,
    pub native: Option<Series>,
    /// Tearless with one vCPU, for work that runs on two.
    pub single: Option<Series>,
}

impl Row {
    pub fn class(&self) -> Option<Class> {
        WORKLOADS.iter().find(|w| w.name == self.name).map(|w| w.class)
    }

    /// The QEMU that is fastest here.
    pub fn best_qemu(&self) -> Option<&Series> {
        let measured = self.qemu.iter().filter(|s| s.best().is_some());
        measured.min_by(|a, b| f64::total_cmp(&a.best().unwrap_or(f64::MAX), &b.best().unwrap_or(f64::MAX)))
    }

    /// How many times faster Tearless is than the fastest QEMU.
    pub fn ratio(&self) -> Option<f64> {
        Some(self.best_qemu()?.best()? / self.tearless.best()?)
    }

    /// The least and the greatest ratio of a pair of runs.
    pub fn spread(&self) -> Option<(f64, f64)> {
        let qemu = self.best_qemu()?;
        let ratios = qemu.cpu.iter().zip(&qemu.beside).map(|(qemu, tearless)| qemu / tearless);
        ratios.fold(None, |all: Option<(f64, f64)>, r| {
            Some(all.map_or((r, r), |(low, high)| (low.min(r), high.max(r))))
        })
    }

    /// Slowdown of Tearless over native.
    pub fn slowdown(&self) -> Option<f64> {
        Some(self.tearless.best()? / self.native.as_ref()?.best()?)
    }

    /// Slowdown of the fastest QEMU over native.
    pub fn qemu_slowdown(&self) -> Option<f64> {
        Some(self.best_qemu()?.best()? / self.native.as_ref()?.best()?)
    }

    /// How much sooner two vCPUs are done than one.
    pub fn scaling(&self) -> Option<f64> {
        Some(self.single.as_ref()?.best_wall()? / self.tearless.best_wall()?)
    }

    /// Turns results that differ between sides into failures: whoever differs from the majority of QEMUs.
    pub fn check_outputs(&mut self, same_natively: bool) {
        let Some(reference) = self.best_qemu().map(|s| s.output.clone()) else { return };
        let guests = self.qemu.iter_mut().chain([&mut self.tearless]).chain(self.single.as_mut());
        let native = self.native.as_mut().filter(|_| same_natively);
        for series in guests.chain(native).filter(|s| !s.cpu.is_empty() && s.output != reference) {
            let why = format!("another result: {:?} where QEMU has {reference:?}", series.output);
            series.fail(why);
        }
    }

    /// All sides that failed, with the reason.
    pub fn failures(&self) -> Vec<(&str, &str)> {
        let all = [&self.tearless].into_iter().chain(&self.qemu).chain(&self.native).chain(&self.single);
        all.filter_map(|s| Some((s.side.as_str(), s.failure.as_deref()?))).collect()
    }
}

/// The geometric mean, and of how many.
pub fn geometric_mean(values: impl Iterator<Item = f64>) -> Option<(f64, usize)> {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value.ln(), count + 1));
    (count > 0).then(|| ((sum / count as f64).exp(), count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(cpu: &[f64], output: &str) -> Series {
        Series { cpu: cpu.to_vec(), wall: cpu.to_vec(), output: output.into(), ..Series::default() }
    }

    #[test]
    fn ratios_are_against_the_fastest_qemu() {
        let row = Row {
            tearless: series(&[1.0, 0.5], "x"),
            qemu: vec![
                series(&[4.0, 5.0], "x"),
                Series { beside: vec![1.0, 0.5], ..series(&[2.0, 3.0], "x") },
            ],
            native: Some(series(&[0.25], "x")),
            ..Row::default()
        };
        assert_eq!(row.ratio(), Some(4.0));
        assert_eq!(row.spread(), Some((2.0, 6.0)), "pair by pair");
        assert_eq!((row.slowdown(), row.qemu_slowdown()), (Some(2.0), Some(8.0)));
        assert_eq!(row.scaling(), None);
    }

    #[test]
    fn another_result_is_a_failure() {
        let mut row = Row {
            tearless: series(&[1.0], "wrong"),
            qemu: vec![series(&[1.0], "right")],
            native: Some(series(&[1.0], "rounded")),
            ..Row::default()
        };
        row.check_outputs(false);
        assert_eq!(row.failures().len(), 1);
        assert_eq!(row.ratio(), None);
        row.check_outputs(true);
        assert_eq!(row.failures().len(), 2);
    }

    #[test]
    fn a_failed_round_fails_the_series() {
        let mut failed = Series::new("x");
        let run = |status| Run {
            cpu: std::time::Duration::from_secs(1),
            wall: std::time::Duration::ZERO,
            status,
            output: String::new(),
        };
        failed.add(Ok(run(0)));
        assert_eq!(failed.best(), Some(1.0));
        failed.add(Ok(run(3)));
        assert_eq!(failed.best(), None);
    }

    #[test]
    fn means_are_geometric() {
        let (mean, count) = geometric_mean([2.0, 8.0].into_iter()).unwrap();
        assert!((mean - 4.0).abs() < 1e-9);
        assert_eq!(count, 2);
        assert_eq!(geometric_mean(std::iter::empty()), None);
    }
}
