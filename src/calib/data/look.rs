//! Looks through arrays for values that a model cannot take.

use super::rows::{Rows, find};
use crate::error::Error;
use crate::runtime::HostArray;

/// The hint for ids of another vocabulary.
const OWN_IDS: &str = "give ids of the model's own vocabulary";

/// A fault of an array.
pub(super) enum Fault {
    /// A clause about values.
    Values(String),
    /// A clause about ids of another vocabulary.
    Ids(String),
    /// An error of reading.
    Unread(Error),
}

impl Fault {
    /// The error, which `about` makes of a clause about the array.
    pub(super) fn told(self, about: impl Fn(&str) -> Error) -> Error {
        match self {
            Fault::Values(clause) => about(&clause),
            Fault::Ids(clause) => about(&clause).hint(OWN_IDS),
            Fault::Unread(error) => error,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Unread(error)
    }
}

/// Looks for values that a model cannot take: NaN, infinity, or indices outside a table.
pub(super) fn look_through<R: Rows + ?Sized>(
    array: &R,
    input: &str,
    table: Option<usize>,
    number_of: impl Fn(usize) -> usize,
) -> Result<(), Fault> {
    if let Some(row) = array.first_not_finite()? {
        let row = number_of(row);
        return Err(Fault::Values(format!("has a value in sample {row} that is NaN or infinite")));
    }
    if let Some(rows) = table
        && let Some((row, number)) = find(array, |some| outside(some, rows))?
    {
        let (row, last) = (number_of(row), rows.saturating_sub(1));
        return Err(Fault::Ids(format!(
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
