//! Looks through arrays for values that a model cannot take.

use super::rows::{Rows, find};
use crate::error::Error;
use crate::runtime::HostArray;

/// The hint for ids of another vocabulary.
const OWN_IDS: &str = "give ids of the model's own vocabulary";

/// A fault of an array.
pub(super) enum Looked {
    /// A clause about it.
    Wrong(String),
    /// A clause about ids.
    Table(String),
    /// An error of reading.
    Unread(Error),
}

impl Looked {
    /// The error, which `about` makes of a clause about the array.
    pub(super) fn told(self, about: impl Fn(&str) -> Error) -> Error {
        match self {
            Looked::Wrong(clause) => about(&clause),
            Looked::Table(clause) => about(&clause).hint(OWN_IDS),
            Looked::Unread(error) => error,
        }
    }
}

impl From<Error> for Looked {
    fn from(error: Error) -> Self {
        Looked::Unread(error)
    }
}

/// Looks for values that a model cannot take: NaN, infinity, or indices outside a table.
pub(super) fn look_through<R: Rows + ?Sized>(
    array: &R,
    input: &str,
    table: Option<usize>,
    number_of: impl Fn(usize) -> usize,
) -> Result<(), Looked> {
    if let Some(row) = array.first_not_finite()? {
        let row = number_of(row);
        return Err(Looked::Wrong(format!("has a value in sample {row} that is NaN or infinite")));
    }
    if let Some(rows) = table
        && let Some((row, number)) = find(array, |some| outside(some, rows))?
    {
        let (row, last) = (number_of(row), rows.saturating_sub(1));
        return Err(Looked::Table(format!(
            "has {number} in sample {row}, but input '{input}' picks rows of a table from 0 to {last}"
        )));
    }
    Ok(())
}

/// The first number that is not an index of a table with `rows` rows, and its position. Negative numbers
/// count from the end of the table.
fn outside(array: &HostArray, rows: usize) -> Option<(usize, i64)> {
    let rows = rows as i64;
    let numbers = array.clone().integers()?;
    let at = numbers.iter().position(|number| *number >= rows || *number < -rows)?;
    Some((at, numbers.iter().nth(at).copied()?))
}
