//! Joint models that another program has changed.

use std::path::Path;

use crate::emit;
use crate::error::{Context, Result};
use crate::ir::Model;
use crate::mtz::joint::JointModel;
use crate::progress::Progress;

/// The task nets of the joint model in the file `path`, with a warning if another program has changed its operators.
///
/// # Errors
/// As [`emit::restore`].
pub(super) fn restore(joint: &Model, path: &Path, progress: &dyn Progress) -> Result<JointModel> {
    if let Some(remark) = remark(joint) {
        progress.warn(&format!("{}: {remark}", path.display()));
    }
    emit::restore(joint).in_model(path.display())
}

/// A remark on a joint model whose operators are not those that were written. Its recipe does not know the others.
pub(super) fn remark(joint: &Model) -> Option<&'static str> {
    let remark = "another program has changed the operators of this joint model; its tasks are taken as they were \
                  merged, with the weights of the file: give the file as it was written, or compare the outputs";
    emit::is_rewritten(joint).then_some(remark)
}
