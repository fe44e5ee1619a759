//! Progress reporting and cancellation.

use crate::error::{Error, ErrorKind, Result};

/// Receives the progress of long work, and may cancel it.
///
/// ```
/// use onnx_zip::Progress;
///
/// /// Prints stages and notes, and never cancels.
/// struct Printed;
///
/// impl Progress for Printed {
///     fn begin(&self, stage: &str, steps: u64) {
///         println!("{stage}: {steps} steps");
///     }
///     fn step(&self) {}
///     fn note(&self, message: &str) {
///         println!("{message}");
///     }
///     fn stopped(&self) -> bool {
///         false
///     }
/// }
/// ```
pub trait Progress: Sync {
    /// Begins a stage of `steps` steps.
    fn begin(&self, stage: &str, steps: u64);

    /// Ends one step of the current stage.
    fn step(&self);

    /// Describes the state of the current stage.
    fn status(&self, _: &str) {}

    /// A note for the user.
    fn note(&self, message: &str);

    /// A warning.
    fn warn(&self, message: &str) {
        self.note(message);
    }

    /// A failure, which is shown even in quiet mode.
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

/// Reports nothing and never cancels.
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
