//! Ctrl-C: the first one asks to stop, the second one does.

use std::io::{self, Write};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, ErrorKind, Result};

static STOPPED: AtomicBool = AtomicBool::new(false);

/// Exit code of a process that the user stopped.
const INTERRUPTED: i32 = 130;

/// Listens to Ctrl-C and to requests to terminate.
pub(super) fn install() -> Result<()> {
    ctrlc::set_handler(|| {
        if STOPPED.swap(true, Ordering::Relaxed) {
            process::exit(INTERRUPTED);
        }
        let _ = writeln!(io::stderr(), "\nstopping; press Ctrl-C again to exit at once");
    })
    .map_err(|e| Error::new(ErrorKind::Io, "cannot listen to Ctrl-C").because(e))
}

/// Whether the user asked to stop.
pub(super) fn stopped() -> bool {
    STOPPED.load(Ordering::Relaxed)
}
