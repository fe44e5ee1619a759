//! Write-only targets: devices, pipes and open files.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::is_stdout;
use crate::error::Error;
use crate::progress::Progress;

/// Interval of polls for cancellation.
const GLANCE: Duration = Duration::from_millis(50);

/// The reason why a stream is incomplete.
pub(super) enum Failure {
    Stopped(Error),
    Io(io::Error),
}

/// Copies the file `from` into the stream `to`, until it is done or `progress` says to stop.
///
/// A pipe without a reader, or with a slow one, blocks its writer, which cannot be cancelled then. So
/// another thread writes, and is abandoned on cancellation.
pub(super) fn pour(from: &Path, to: &Path, progress: &dyn Progress) -> Result<(), Failure> {
    let file = File::open(from).map_err(Failure::Io)?;
    let (done, result) = mpsc::channel();
    let to = to.to_owned();
    let writer = thread::Builder::new().name("output".to_owned());
    let spawned = writer.spawn(move || {
        // The receiver is gone if the wait was cancelled.
        let _ = done.send(copy(file, to));
    });
    spawned.map_err(Failure::Io)?;
    loop {
        match result.recv_timeout(GLANCE) {
            Ok(copied) => return copied.map_err(Failure::Io),
            Err(RecvTimeoutError::Timeout) => progress.check().map_err(Failure::Stopped)?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::Io(io::ErrorKind::BrokenPipe.into()));
            }
        }
    }
}

fn copy(mut from: File, to: PathBuf) -> io::Result<()> {
    if is_stdout(&to) {
        // Opening an open file by its name would overwrite it from the beginning.
        let mut out = io::stdout().lock();
        io::copy(&mut from, &mut out)?;
        return io::Write::flush(&mut out);
    }
    let mut out = OpenOptions::new().write(true).truncate(true).open(to)?;
    io::copy(&mut from, &mut out).map(drop)
}
