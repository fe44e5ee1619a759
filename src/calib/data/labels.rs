//! Converts labels of the data to class numbers.

use std::collections::{BTreeMap, BTreeSet};

use super::formats::Content;
use crate::error::Result;
use crate::runtime::HostArray;

/// Limit of classes that a note lists.
const SHOWN: usize = 20;

/// Labels, or the reason why there are none, and notes for the user.
pub(super) struct Labels {
    pub(super) numbers: Option<Vec<i64>>,
    pub(super) note: Option<String>,
}

/// The labels in a field: one integer per sample, or one word per sample. The sorted words are the
/// classes.
///
/// # Errors
/// Those of reading it.
pub(super) fn labels(name: &str, content: Content) -> Result<Labels> {
    let unused = |why: &str| Labels {
        numbers: None,
        note: Some(format!("'{name}' {why}, so it is unused")),
    };
    let numbers = match content {
        // Masks or images under the name of labels may be larger than the memory.
        Content::Array(array) if array.shape().iter().skip(1).any(|size| *size != 1) => None,
        Content::Array(array) => {
            let all: Vec<usize> = (0..array.count()).collect();
            class_labels(array.rows(&all)?)
        }
        Content::Text(words) => return Ok(of_words(name, &words)),
        Content::Media(_) => return Ok(unused("holds pictures or sounds")),
    };
    Ok(match numbers {
        None => unused("is not one integer per sample"),
        // Hugging Face writes −1 for withheld labels.
        Some(numbers) if numbers.iter().all(|label| *label == -1) => unused("is -1 everywhere"),
        Some(numbers) => Labels { numbers: Some(numbers), note: None },
    })
}

fn of_words(name: &str, words: &[String]) -> Labels {
    let whole: Option<Vec<i64>> = words.iter().map(|word| word.parse().ok()).collect();
    if let Some(numbers) = whole {
        return Labels { numbers: Some(numbers), note: None };
    }
    let classes: BTreeSet<&str> = words.iter().map(String::as_str).collect();
    let numbers: BTreeMap<&str, i64> = classes.iter().copied().zip(0..).collect();
    let labels = words.iter().filter_map(|word| numbers.get(word.as_str()).copied()).collect();
    let shown: Vec<&str> = classes.iter().copied().take(SHOWN).collect();
    let more = if classes.len() > SHOWN { ", …" } else { "" };
    let note = format!("labels are the words of '{name}' in order: {}{more}", shown.join(", "));
    Labels { numbers: Some(labels), note: Some(note) }
}

/// Labels from integers or whole floats; `None` for anything else.
fn class_labels(array: HostArray) -> Option<Vec<i64>> {
    match array.clone().integers() {
        Some(integers) => Some(integers.iter().copied().collect()),
        None => {
            let floats = array.into_f32().ok()?;
            // Class numbers are small, so a float that holds one holds it exactly.
            let whole = |v: &f32| (v.fract() == 0.0 && v.abs() < 1e6).then_some(*v as i64);
            floats.iter().map(whole).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::rows::Rows;
    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::ir::DataType;

    /// An array that cannot be read.
    #[derive(Debug)]
    struct Unreadable(Vec<usize>);

    impl Rows for Unreadable {
        fn dtype(&self) -> DataType {
            DataType::U8
        }

        fn shape(&self) -> &[usize] {
            &self.0
        }

        fn rows(&self, _: &[usize]) -> Result<HostArray> {
            Err(Error::new(ErrorKind::Io, "the array was read"))
        }
    }

    #[test]
    fn arrays_of_another_shape_than_labels_are_not_read() {
        let found =
            |shape: &[usize]| labels("y", Content::Array(Arc::new(Unreadable(shape.into()))));
        let masks = found(&[9, 224, 224]).unwrap();
        assert_eq!(masks.numbers, None);
        assert!(masks.note.is_some_and(|note| note.contains("not one integer per sample")));
        assert!(found(&[9, 1]).is_err() && found(&[9]).is_err());
    }
}
