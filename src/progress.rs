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

/// The progress of a part of longer work. Remarks and the wish to stop are those of the whole.
pub(crate) struct PartProgress<'a> {
    whole: &'a dyn Progress,
    stages: Stages,
}

/// How the stages of a part are shown.
enum Stages {
    /// With the number of the part.
    Numbered(usize),
    /// Not at all.
    Hidden,
}

impl<'a> PartProgress<'a> {
    /// One of several merges. Its stages are named after its number; those of the first one keep their names,
    /// since there may be no other.
    pub(crate) fn merge(whole: &'a dyn Progress, number: usize) -> Self {
        PartProgress { whole, stages: Stages::Numbered(number) }
    }

    /// A part whose steps are none of the whole.
    pub(crate) fn unheard(whole: &'a dyn Progress) -> Self {
        PartProgress { whole, stages: Stages::Hidden }
    }
}

impl Progress for PartProgress<'_> {
    fn begin(&self, stage: &str, steps: u64) {
        match self.stages {
            Stages::Hidden => {}
            Stages::Numbered(0 | 1) => self.whole.begin(stage, steps),
            Stages::Numbered(number) => {
                self.whole.begin(&format!("{stage}, merge {number}"), steps);
            }
        }
    }

    fn step(&self) {
        if let Stages::Numbered(_) = self.stages {
            self.whole.step();
        }
    }

    fn status(&self, state: &str) {
        if let Stages::Numbered(_) = self.stages {
            self.whole.status(state);
        }
    }

    fn note(&self, message: &str) {
        self.whole.note(message);
    }

    fn warn(&self, message: &str) {
        self.whole.warn(message);
    }

    fn fault(&self, message: &str) {
        self.whole.fault(message);
    }

    fn worded(&self, remark: &Hint) -> String {
        self.whole.worded(remark)
    }

    fn stopped(&self) -> bool {
        self.whole.stopped()
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
        fn begin(&self, stage: &str, _: u64) {
            self.add("stage", stage);
        }

        fn step(&self) {
            self.add("step", "");
        }

        fn status(&self, state: &str) {
            self.add("status", state);
        }

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

    /// What is heard of a part that goes through a stage and makes remarks.
    fn heard(stages: Stages) -> Vec<String> {
        let heard = Heard::default();
        let part = PartProgress { whole: &heard, stages };
        part.begin("fuse", 1);
        part.status("half");
        part.step();
        part.note("a");
        part.warn("b");
        part.fault("c");
        heard.0.into_inner().unwrap()
    }

    #[test]
    fn remarks_of_parts_keep_their_kind_and_stages_are_numbered_or_hidden() {
        let remarks = ["note a", "warning b", "fault c"];
        assert_eq!(heard(Stages::Hidden), remarks);
        for (number, name) in [(1, "stage fuse"), (2, "stage fuse, merge 2")] {
            let steps = [name, "status half", "step "];
            assert_eq!(heard(Stages::Numbered(number)), [steps, remarks].concat());
        }
    }
}
