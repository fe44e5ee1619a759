//! What becomes of a joint model that is written and checked, but not yet in its place.

use std::path::{Path, PathBuf};

use super::console::Console;
use super::output;
use crate::error::{Error, ErrorKind, Result};
use crate::onnx::Draft;
use crate::staging::{Target, resolve};
use crate::verify::{DEVIATION_KEY, Reported, Verification};

/// Where a joint model goes.
pub(super) struct Place<'a> {
    pub(super) output: &'a Path,
    /// Where one goes that failed its check; `None` where it is not kept.
    pub(super) rejected: Option<PathBuf>,
}

/// What became of it.
pub(super) struct Settled {
    /// Where it is, or would be.
    pub(super) path: PathBuf,
    /// Whether it is there.
    pub(super) written: bool,
}

impl<'a> Place<'a> {
    /// For `output`; with `keep`, a rejected model goes beside it.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] where nothing can be beside it, or that would be one of the `inputs`.
    pub(super) fn new(output: &'a Path, keep: bool, inputs: &[PathBuf]) -> Result<Self> {
        if !keep {
            return Ok(Place { output, rejected: None });
        }
        let Ok(Target::File(real)) = resolve(output) else {
            let message =
                format!("'{}' is no file beside which another could be", output.display());
            return Err(Error::new(ErrorKind::Usage, message).hint("leave out --keep-rejected"));
        };
        let stem = real.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let suffix = real.extension().map(|s| format!(".{}", s.to_string_lossy()));
        let name = format!("{stem}.rejected{}", suffix.unwrap_or_default());
        let rejected = real.with_file_name(name);
        output::check(&rejected, inputs)?;
        Ok(Place { output, rejected: Some(rejected) })
    }

    /// Keeps a model of which the check came to no end, where that is wished for; gives the error back.
    pub(super) fn unchecked(&self, draft: Draft<'_>, error: Error) -> Error {
        let Some(rejected) = &self.rejected else { return error };
        match draft.commit_as(rejected) {
            Ok(_) => error.hint(format!("the model is kept as '{}'", rejected.display())),
            Err(second) => second,
        }
    }

    /// Notes in a model that passed its check how far its tasks are from their originals.
    ///
    /// # Errors
    /// As [`Draft::add_metadata`].
    pub(super) fn note(
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

    /// Leaves a model that failed its check out of its place, where the old file stays as it is.
    ///
    /// # Errors
    /// As [`Draft::commit_as`].
    pub(super) fn reject(&self, draft: Draft<'_>, console: &Console) -> Result<Settled> {
        let output = self.output.display();
        let what =
            format!("the joint model failed its verification and is not written to '{output}'");
        let Some(rejected) = &self.rejected else {
            console.fault(&format!("{what}; --keep-rejected keeps such a model beside it"));
            return Ok(Settled { path: self.output.to_owned(), written: false });
        };
        draft.commit_as(rejected)?;
        console.fault(&format!("{what}; it is kept as '{}'", rejected.display()));
        Ok(Settled { path: rejected.clone(), written: true })
    }
}
