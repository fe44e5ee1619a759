//! Ctrl-C: the first one asks to stop, the second one does.
//!
//! Work that asks in between stops in order. Where nothing asks for a while (a runtime that computes, a
//! large product, a damaged model), the process ends all the same; what it was writing has no place yet.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

static STOPPED: AtomicBool = AtomicBool::new(false);

/// Whether somebody has been told.
static HEARD: AtomicBool = AtomicBool::new(false);

/// Exit code of a process that the user stopped.
const INTERRUPTED: i32 = 130;

/// How long work may take to ask.
const PATIENCE: Duration = Duration::from_millis(700);

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

/// Ends the process, whatever its other threads do. Runtimes must not be taken down while they compute,
/// as an orderly exit would.
fn leave() -> ! {
    #[cfg(unix)]
    signal_hook::low_level::exit(INTERRUPTED);
    #[cfg(not(unix))]
    std::process::exit(INTERRUPTED)
}
