//! Ctrl-C: the first one asks to stop, the second one ends the process.
//!
//! Work that polls stops in order. If nothing polls for a while (a runtime that computes, a large
//! product, a damaged model), the process ends anyway. Files being written are not in place yet.

use std::io::{self, Write};
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
        thread::spawn(|| {
            thread::sleep(PATIENCE);
            if !HEARD.load(Ordering::Relaxed) {
                let _ = writeln!(io::stderr(), "error: stopped on request");
                leave();
            }
        });
    })
    .map_err(|e| Error::new(ErrorKind::Io, "cannot listen to Ctrl-C").because(e))
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
    thread::spawn(move || {
        workers::end_all();
        told.send(())
    });
    let _ = waiting.recv_timeout(FAREWELL);
    #[cfg(unix)]
    signal_hook::low_level::exit(INTERRUPTED);
    #[cfg(not(unix))]
    std::process::exit(INTERRUPTED)
}
