//! Ctrl-C: the first one asks to stop, the second one ends the process.
//!
//! Work that polls stops in order. If nothing polls for a while (a runtime that computes, a large
//! product, a damaged model), the process ends anyway. Files being written are not in place yet.
//!
//! The system's signal for files that are too large must not end the process: then writing returns an
//! error, which names the file.

use std::io::{self, Write};
#[cfg(unix)]
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::workers;

static STOPPED: AtomicBool = AtomicBool::new(false);

/// Whether a poll has seen the request.
static HEARD: AtomicBool = AtomicBool::new(false);

/// Exit code of a process that the user stopped.
const INTERRUPTED: i32 = 130;

/// Time within which work must poll.
const PATIENCE: Duration = Duration::from_millis(700);

/// Time for telling the workers of a merge.
const FAREWELL: Duration = Duration::from_secs(3);

/// Listens to Ctrl-C and to requests to terminate.
pub(super) fn install() -> Result<()> {
    ctrlc::set_handler(|| {
        if STOPPED.swap(true, Ordering::Relaxed) {
            leave();
        }
        let _ = writeln!(io::stderr(), "\nstopping; press Ctrl-C again to exit at once");
        let waiting = thread::Builder::new().spawn(|| {
            thread::sleep(PATIENCE);
            leave_unless_heard();
        });
        // Without a thread to wait in, this one must listen to the second Ctrl-C, so nobody waits.
        if waiting.is_err() {
            leave_unless_heard();
        }
    })
    .map_err(|e| Error::new(ErrorKind::Io, "cannot listen to Ctrl-C").because(e))?;
    survive_large_files()
}

/// Makes writing beyond the largest allowed file an error.
#[cfg(unix)]
fn survive_large_files() -> Result<()> {
    let seen = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, seen).map(drop).map_err(|e| {
        Error::new(ErrorKind::Io, "cannot listen to the limit of file sizes").because(e)
    })
}

/// Elsewhere there is no such signal.
#[cfg(not(unix))]
fn survive_large_files() -> Result<()> {
    Ok(())
}

fn leave_unless_heard() {
    if !HEARD.load(Ordering::Relaxed) {
        let _ = writeln!(io::stderr(), "error: stopped on request");
        leave();
    }
}

/// Whether the user asked to stop.
pub(super) fn stopped() -> bool {
    let stopped = STOPPED.load(Ordering::Relaxed);
    if stopped {
        HEARD.store(true, Ordering::Relaxed);
    }
    stopped
}

/// Ends the process at once. An orderly exit would tear down runtimes while they compute. Only workers are
/// told, unless their folder does not respond.
fn leave() -> ! {
    let (told, waiting) = mpsc::channel();
    // Without a thread, workers notice by themselves that this process is gone.
    let _ = thread::Builder::new().spawn(move || {
        workers::end_all();
        told.send(())
    });
    let _ = waiting.recv_timeout(FAREWELL);
    exit(INTERRUPTED)
}

/// Ends the process without the exit handlers of libraries, which may wait for ever: OpenBLAS waits for its
/// threads, and these wait for memory that a limit denies. Whoever writes to standard output flushes it: a
/// thread that waits for a reader may hold it by now.
pub(super) fn exit(code: i32) -> ! {
    #[cfg(unix)]
    signal_hook::low_level::exit(code);
    #[cfg(not(unix))]
    std::process::exit(code)
}
