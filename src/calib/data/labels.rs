//! Converts labels of the data to class numbers.

use std::collections::{BTreeMap, BTreeSet};

use super::Dataset;
use super::formats::{Content, is_per_sample};
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::runtime::HostArray;

/// Limit of classes that a note lists.
const SHOWN: usize = 20;

/// Labels, or the reason why there are none, and notes for the user.
pub(super) struct Labels {
    pub(super) numbers: Option<Vec<i64>>,
    pub(super) note: Option<String>,
}

impl Dataset {
    /// Why the labels of the data are unused, if [`Dataset::of_classes`] has dropped them.
    pub fn unusable_labels(&self) -> Option<&str> {
        self.unusable.as_deref()
    }

    /// The samples of a net that tells so many classes apart: without labels if one of them is no class, which
    /// a note says.
    pub fn of_classes(mut self, classes: usize) -> Dataset {
        let is_class = |label: i64| usize::try_from(label).is_ok_and(|class| class < classes);
        let stray = |labels: &Vec<i64>| {
            let mut numbered = labels.iter().copied().enumerate();
            numbered.find(|(_, label)| !is_class(*label))
        };
        if let Some((sample, label)) = self.labels.as_ref().and_then(stray) {
            let why = format!(
                "label {label} of sample {sample} is none of the model's {classes} classes"
            );
            self.notes.push(Hint::from(format!("{why}, so labels are unused")));
            (self.labels, self.unusable) = (None, Some(why));
        }
        self
    }
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
        Content::Array(array) if !is_per_sample(array.shape()) => None,
        Content::Array(array) => {
            let all: Vec<usize> = (0..array.count()).collect();
            class_labels(array.rows(&all)?)
        }
        Content::Text(words) => return of_words(name, &words),
        Content::Media(_) => return Ok(unused("holds pictures or sounds")),
    };
    Ok(match numbers {
        None => unused("is not one integer per sample"),
        // Hugging Face writes −1 for withheld labels.
        Some(numbers) if numbers.iter().all(|label| *label == -1) => unused("is -1 everywhere"),
        Some(numbers) => Labels { numbers: Some(numbers), note: None },
    })
}

/// Numbers that are written as words, or else the places of words in the order of the alphabet.
///
/// # Errors
/// [`ErrorKind::Calibration`] for numbers of which some are missing.
fn of_words(name: &str, words: &[String]) -> Result<Labels> {
    let whole: Option<Vec<i64>> = words.iter().map(|word| word.parse().ok()).collect();
    if let Some(numbers) = whole {
        return Ok(Labels { numbers: Some(numbers), note: None });
    }
    if let Some(sample) = missing(words) {
        let message = format!("'{name}' holds numbers, but none for sample {sample}");
        return Err(Error::new(ErrorKind::Calibration, message)
            .hint("fill in its label, or leave the sample out"));
    }
    let classes: BTreeSet<&str> = words.iter().map(String::as_str).collect();
    let numbers: BTreeMap<&str, i64> = classes.iter().copied().zip(0..).collect();
    let labels = words.iter().filter_map(|word| numbers.get(word.as_str()).copied()).collect();
    let shown: Vec<&str> = classes.iter().copied().take(SHOWN).collect();
    let more = if classes.len() > SHOWN { ", …" } else { "" };
    let note = format!("labels are the words of '{name}' in order: {}{more}", shown.join(", "));
    Ok(Labels { numbers: Some(labels), note: Some(note) })
}

/// The first sample without a number, if all others have one.
fn missing(words: &[String]) -> Option<usize> {
    let blank = words.iter().position(String::is_empty)?;
    let mut others = words.iter().filter(|word| !word.is_empty()).peekable();
    let has_some = others.peek().is_some();
    (has_some && others.all(|word| word.parse::<f64>().is_ok())).then_some(blank)
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
    use super::super::{Arrays, DataOptions};
    use super::*;
    use crate::ir::{DataType, Dim};
    use crate::runtime::Port;

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
    #[test]
    fn blanks_among_numbers_are_refused_and_those_among_words_are_not() {
        let of = |words: &[&str]| {
            let words = words.iter().map(|word| (*word).to_owned()).collect();
            labels("label", Content::Text(words))
        };
        let error = of(&["1", "", "1.0"]).err().map(|error| error.to_string());
        assert!(
            error.is_some_and(|text| text.contains("'label' holds numbers, but none for sample 1"))
        );
        assert_eq!(of(&["cat", "", "cat"]).unwrap().numbers, Some(vec![1, 0, 1]));
        assert_eq!(of(&["3", "1"]).unwrap().numbers, Some(vec![3, 1]));
    }

    #[test]
    fn labels_that_are_no_classes_of_the_net_are_unused() {
        let data = |labels: Vec<i64>| {
            let count = labels.len();
            let samples = ndarray::Array2::<f32>::zeros((count, 2)).into_dyn();
            let labels = ndarray::Array1::from_vec(labels).into_dyn();
            let shape = Some(vec![Dim::Unknown, Dim::Known(2)]);
            let port = Port { name: "x".into(), dtype: DataType::F32, shape };
            let arrays = Arrays::in_order([samples.into(), labels.into()]);
            Dataset::from_arrays(&arrays, &[port], &DataOptions::default()).unwrap()
        };
        let fits = data(vec![0, 2, 1]).of_classes(3);
        assert_eq!((fits.labels(0..3), fits.unusable_labels()), (Some(vec![0, 2, 1]), None));
        for (stray, labels) in [(100, vec![0, 100, 1]), (-1, vec![2, -1, -1])] {
            let found = data(labels).of_classes(3);
            assert!(!found.has_labels());
            let wanted = format!("label {stray} of sample 1 is none of the model's 3 classes");
            assert_eq!(found.unusable_labels(), Some(wanted.as_str()));
            assert!(found.notes().iter().any(|note| note.in_flags().starts_with(&wanted)));
        }
    }
}
