//! Progress reporting and cancellation.

use crate::error::{Error, ErrorKind, Hint, Result};

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

    /// Words the options that a remark names: as fields of the library's options, or keywords of Python.
    fn worded(&self, remark: &Hint) -> String {
        remark.in_fields()
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

/// Names the stages of one of several merges after its number. The stages of the first one keep their names, since
/// there may be no other.
pub(crate) struct Numbered<'a>(pub(crate) &'a dyn Progress, pub(crate) usize);

impl Progress for Numbered<'_> {
    fn begin(&self, stage: &str, steps: u64) {
        match self.1 {
            0 | 1 => self.0.begin(stage, steps),
            number => self.0.begin(&format!("{stage}, merge {number}"), steps),
        }
    }

    fn step(&self) {
        self.0.step();
    }

    fn status(&self, state: &str) {
        self.0.status(state);
    }

    fn note(&self, message: &str) {
        self.0.note(message);
    }

    fn warn(&self, message: &str) {
        self.0.warn(message);
    }

    fn fault(&self, message: &str) {
        self.0.fault(message);
    }

    fn worded(&self, remark: &Hint) -> String {
        self.0.worded(remark)
    }

    fn stopped(&self) -> bool {
        self.0.stopped()
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

    fn fault(&self, message: &str) {
        self.0.fault(message);
    }

    fn worded(&self, remark: &Hint) -> String {
        self.0.worded(remark)
    }

    fn stopped(&self) -> bool {
        self.0.stopped()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Records what it hears.
    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Heard {
        fn add(&self, kind: &str, message: &str) {
            self.0.lock().unwrap().push(format!("{kind} {message}"));
        }
    }

    impl Progress for Heard {
        fn begin(&self, _: &str, _: u64) {}

        fn step(&self) {}

        fn note(&self, message: &str) {
            self.add("note", message);
        }

        fn warn(&self, message: &str) {
            self.add("warning", message);
        }

        fn fault(&self, message: &str) {
            self.add("fault", message);
        }

        fn stopped(&self) -> bool {
            false
        }
    }

    #[test]
    fn remarks_of_parts_keep_their_kind() {
        let heard = Heard::default();
        let parts: [&dyn Progress; 2] = [&Unheard(&heard), &Numbered(&heard, 2)];
        for part in parts {
            part.note("a");
            part.warn("b");
            part.fault("c");
        }
        let once = ["note a", "warning b", "fault c"];
        assert_eq!(*heard.0.lock().unwrap(), [once, once].concat());
    }
}
