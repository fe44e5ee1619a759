//! Options of a worker.

use super::RuntimeOptions;

/// Options of a worker.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[non_exhaustive]
pub struct WorkerOptions {
    /// Seconds without a heartbeat after which another worker counts as dead
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "N", default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(2..=86_400)))]
    pub patience: u64,
    /// Which runtime to use.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub runtime: RuntimeOptions,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        WorkerOptions { patience: 30, runtime: RuntimeOptions::default() }
    }
}
