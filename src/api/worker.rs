//! Computes statistics for a merge in another process.

use std::path::Path;
use std::time::Duration;

use super::options::{RuntimeOptions, WorkerOptions};
use crate::calib::product::check_buffers;
use crate::error::Result;
use crate::mtz::statistics::ShardWorker;
use crate::progress::Progress;
use crate::workers;

/// Computes statistics for the merge that shares `folder` with its workers, until the merge ends. Waits
/// for the merge if it has not begun.
///
/// # Errors
/// Those of reading samples and running models, which end the merge, too;
/// [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted) if `progress` is stopped.
pub fn worker(folder: &Path, options: &WorkerOptions, progress: &dyn Progress) -> Result<()> {
    let backend = options.runtime.open(progress)?;
    check_buffers()?;
    workers::work(folder, backend, Duration::from_secs(options.patience), progress)
}

/// A worker for one shard, from the bytes of [`Job::nets`](crate::mtz::statistics::Job::nets) and
/// [`Job::shard`](crate::mtz::statistics::Job::shard). The caller passes requests to it.
///
/// # Errors
/// As [`ShardWorker::new`].
pub fn shard_worker(
    nets: &[u8],
    samples: &[u8],
    options: &RuntimeOptions,
    progress: &dyn Progress,
) -> Result<ShardWorker> {
    let backend = options.open(progress)?;
    check_buffers()?;
    ShardWorker::new(nets, samples, backend)
}
