//! Predicts which tables become common.

use std::collections::BTreeSet;

use crate::align::{Alignment, TaskId};
use crate::error::Result;
use crate::ir::ValueId;
use crate::mtz::joint::JointModel;
use crate::mtz::site::{Agreement, agreement, corresponding_tables, numbers};

/// The tables of later tasks that a merge stores with those of the first one, where it shares everything. `joint` has
/// the predicted sharing.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if a graph has a cycle or a table does not fill its shape.
pub fn common_tables(
    joint: &JointModel,
    alignment: &Alignment,
) -> Result<BTreeSet<(TaskId, ValueId)>> {
    let mut common = BTreeSet::new();
    for tables in corresponding_tables(joint, alignment)? {
        let Some(found) = numbers(joint, &tables)? else { continue };
        if !matches!(agreement(&tables, &found, |_| 1.0), Agreement::None) {
            common.extend(tables.iter().skip(1).map(|(task, table)| (*task, table.value)));
        }
    }
    Ok(common)
}
