//! How long work tells what it is doing, and is told to stop.

use crate::error::{Error, ErrorKind, Result};

/// Listens to long work.
pub trait Progress: Sync {
    /// A stage begins; it takes `steps` steps.
    fn begin(&self, stage: &str, steps: u64);

    /// One step of the current stage is done.
    fn step(&self);

    /// How things stand in the current stage.
    fn status(&self, _: &str) {}

    /// Something the user should know.
    fn note(&self, message: &str);

    /// Something the user must not overlook.
    fn warn(&self, message: &str) {
        self.note(message);
    }

    /// What went wrong, which even who wants to hear nothing must know.
    fn fault(&self, message: &str) {
        self.note(message);
    }

    /// Whether the user asked to stop.
    fn stopped(&self) -> bool;

    /// An error if the user asked to stop.
    ///
    /// # Errors
    /// [`ErrorKind::Interrupted`].
    fn check(&self) -> Result<()> {
        if self.stopped() {
            return Err(Error::new(ErrorKind::Interrupted, "stopped on request"));
        }
        Ok(())
    }
}

/// Says nothing and never stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: u64) {}
    fn step(&self) {}
    fn note(&self, _: &str) {}
    fn stopped(&self) -> bool {
        false
    }
}

/// Passes on remarks and when to stop, but no steps: those of a part are none of the whole.
pub(crate) struct Unheard<'a>(pub(crate) &'a dyn Progress);

impl Progress for Unheard<'_> {
    fn begin(&self, _: &str, _: u64) {}

    fn step(&self) {}

    fn note(&self, message: &str) {
        self.0.note(message);
    }

    fn warn(&self, message: &str) {
        self.0.warn(message);
    }

    fn stopped(&self) -> bool {
        self.0.stopped()
    }
}
