//! Joint models that another program has changed.

use crate::emit;
use crate::ir::Model;

/// A remark on a joint model whose operators are not those that were written. Its recipe does not know the others.
pub(super) fn remark(joint: &Model) -> Option<&'static str> {
    let remark = "another program has changed the operators of this joint model; its tasks are taken as they were \
                  merged, with the weights of the file: give the file as it was written, or compare the outputs";
    emit::is_rewritten(joint).then_some(remark)
}
