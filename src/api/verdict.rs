//! Accepts or rejects a staged joint model after its verification.

use std::path::{Path, PathBuf};

use super::output;
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::onnx::Draft;
use crate::progress::Progress;
use crate::staging::{Target, resolve};
use crate::verify::{DEVIATION_KEY, Reported, Verification};

/// The destination of a joint model.
pub(crate) struct Place<'a> {
    pub(crate) output: &'a Path,
    /// The file of a rejected model; `None` if it is not kept.
    pub(crate) rejected: Option<PathBuf>,
}

/// The final file of a joint model.
pub(crate) struct Settled {
    /// The path.
    pub(crate) path: PathBuf,
    /// Whether the file was written.
    pub(crate) written: bool,
    /// The size of the model, external data included.
    pub(crate) bytes: u64,
}

/// The error of a library's user whose joint model failed, which is in the file `kept` at most.
pub(super) fn failed(failures: &[String], kept: Option<&Path>) -> Error {
    let message = "the joint model failed its verification";
    let hint = match kept {
        Some(path) => Hint::from(format!("it is kept as '{}'", path.display())),
        None => Hint::from("keep it for a look with ").option("keep-rejected"),
    };
    Error::new(ErrorKind::Parity, message).because(failures.join("; ")).hint(hint)
}

impl<'a> Place<'a> {
    /// A place for `output`. With `keep`, a rejected model goes beside it.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if no file can be beside it, or that file is one of the `inputs`.
    pub(crate) fn new(output: &'a Path, keep: bool, inputs: &[PathBuf]) -> Result<Self> {
        if !keep {
            return Ok(Place { output, rejected: None });
        }
        let Ok(Target::File(real)) = resolve(output) else {
            let message = format!(
                "'{}' is not a regular file, so no rejected model can be kept beside it",
                output.display()
            );
            return Err(Error::new(ErrorKind::Usage, message)
                .hint(Hint::from("leave out ").option("keep-rejected")));
        };
        let stem = real.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let suffix = real.extension().map(|s| format!(".{}", s.to_string_lossy()));
        let name = format!("{stem}.rejected{}", suffix.unwrap_or_default());
        let rejected = real.with_file_name(name);
        output::check(&rejected, inputs)?;
        Ok(Place { output, rejected: Some(rejected) })
    }

    /// Puts rejected models into the file `path`, if there is one.
    ///
    /// # Errors
    /// As [`output::check`] and [`output::check_file`].
    pub(crate) fn rejecting_into(self, path: Option<&Path>, inputs: &[PathBuf]) -> Result<Self> {
        let Some(path) = path else { return Ok(self) };
        output::check(path, inputs)?;
        output::check_file(path)?;
        Ok(Place { rejected: Some(path.to_owned()), ..self })
    }

    /// Keeps a model whose check failed with an error, if the user asked for that, and returns the
    /// error.
    pub(crate) fn unchecked(&self, draft: Draft<'_>, error: Error) -> Error {
        let Some(rejected) = &self.rejected else { return error };
        match draft.commit_as(rejected) {
            Ok(_) => error.also(format!("the model is kept as '{}'", rejected.display())),
            Err(second) => second,
        }
    }

    /// Stores the tasks' deviations from their originals in a model that passed.
    ///
    /// # Errors
    /// As [`Draft::add_metadata`].
    pub(crate) fn note(
        &self,
        draft: &mut Draft<'_>,
        checked: Option<&Verification>,
        synthetic: bool,
    ) -> Result<()> {
        match checked.and_then(|checked| Reported::of(checked, synthetic).text()) {
            Some(text) => draft.add_metadata(DEVIATION_KEY, &text),
            None => Ok(()),
        }
    }

    /// Rejects a model that failed. An old file in its place stays.
    ///
    /// # Errors
    /// As [`Draft::commit_as`].
    pub(crate) fn reject(&self, draft: Draft<'_>, progress: &dyn Progress) -> Result<Settled> {
        let output = self.output.display();
        let what =
            format!("the joint model failed its verification and is not written to '{output}'");
        let Some(rejected) = &self.rejected else {
            let remark =
                Hint::from(format!("{what}; ")).option("keep-rejected").then(" keeps such a model");
            progress.fault(&progress.worded(&remark));
            let (path, bytes) = (self.output.to_owned(), draft.bytes()?);
            return Ok(Settled { path, written: false, bytes });
        };
        let bytes = draft.commit_as(rejected)?;
        progress.fault(&format!("{what}; it is kept as '{}'", rejected.display()));
        Ok(Settled { path: rejected.clone(), written: true, bytes })
    }
}
