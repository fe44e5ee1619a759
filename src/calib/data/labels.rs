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

/// One label per row, from integers or whole floats; `None` for anything else.
fn class_labels(array: HostArray) -> Option<Vec<i64>> {
    if array.shape().iter().skip(1).any(|size| *size != 1) {
        return None;
    }
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
