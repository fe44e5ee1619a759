//! Chooses the fields of the data that feed the inputs, and the field of labels.

use std::path::Path;

use super::options::DataOptions;
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::runtime::Port;

/// Usual names of labels.
const LABELS: [&str; 7] = ["labels", "y", "label", "targets", "target", "cls", "class"];

/// The name under which [`DataOptions::columns`] knows labels.
pub(crate) const LABELS_KEY: &str = LABELS[0];

/// Usual names of parts of a dataset.
pub(super) const SPLITS: [&str; 7] = ["train", "test", "val", "valid", "validation", "dev", "eval"];

/// A field of every sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// The content of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Numbers.
    Array,
    /// Pictures or sounds.
    Media,
    /// Words, which feed nothing.
    Text,
}

impl Field {
    /// A field of numbers.
    pub(super) fn array(name: impl Into<String>) -> Self {
        Field { name: name.into(), kind: Kind::Array }
    }
}

/// The fields for the inputs, in their order, and the field of labels.
#[derive(Debug, PartialEq)]
pub(super) struct Chosen {
    pub(super) inputs: Vec<String>,
    pub(super) labels: Option<String>,
}

/// Finds a field for each input: the field that the options name, the field of the input's name, or the
/// only one.
///
/// # Errors
/// [`ErrorKind::Calibration`] where there is none.
pub(super) fn choose(
    fields: &[Field],
    place: &Path,
    ports: &[Port],
    options: &DataOptions,
) -> Result<Chosen> {
    let usable = Usable::of(fields, options.split.as_deref());
    let named = |key: &str| -> Result<Option<&Field>> {
        let Some(column) = options.columns.get(key) else { return Ok(None) };
        let found = fields.iter().find(|field| field.name == *column);
        found.map(Some).ok_or_else(|| no_field(place, column, key, fields))
    };
    let mut inputs = Vec::new();
    for port in ports {
        inputs.push(named(&port.name)?.or(usable.feeding(&port.name)));
    }
    let is_input = |field: &Field| inputs.iter().flatten().any(|own| own.name == field.name);
    let has_input_of = |key: &str| ports.iter().any(|port| port.name == key);
    let by_option = if has_input_of(LABELS_KEY) { None } else { named(LABELS_KEY)? };
    let labels = by_option.or_else(|| {
        LABELS.iter().filter_map(|name| usable.called(name)).find(|field| !is_input(field))
    });
    let only = if ports.len() == 1 { usable.only(labels) } else { None };
    let found = inputs.iter().zip(ports).map(|(field, port)| {
        let field = field.or(only);
        field
            .map(|field| field.name.clone())
            .ok_or_else(|| no_array(place, &port.name, fields, options.split.as_deref()))
    });
    let inputs = found.collect::<Result<_>>()?;
    Ok(Chosen { inputs, labels: labels.map(|field| field.name.clone()) })
}

/// The fields of the requested part of the data, each with its name without that of the part.
struct Usable<'f>(Vec<(&'f Field, &'f str)>);

impl<'f> Usable<'f> {
    fn of(fields: &'f [Field], split: Option<&str>) -> Self {
        let short = |field: &'f Field| match split {
            None => Some((field, field.name.as_str())),
            Some(split) => Some((field, without(&field.name, split)?)),
        };
        Usable(fields.iter().filter_map(short).collect())
    }

    fn called(&self, name: &str) -> Option<&'f Field> {
        self.0.iter().find(|(_, short)| *short == name).map(|(field, _)| *field)
    }

    fn feeding(&self, name: &str) -> Option<&'f Field> {
        self.called(name).filter(|field| field.kind != Kind::Text)
    }

    /// The only field that can feed an input, or the only field of pictures or sounds.
    fn only(&self, labels: Option<&Field>) -> Option<&'f Field> {
        let others = || {
            let fields = self.0.iter().map(|(field, _)| *field);
            fields.filter(|field| Some(*field) != labels && field.kind != Kind::Text)
        };
        let single = |kind: Option<Kind>| {
            let mut found = others().filter(|field| kind.is_none_or(|kind| field.kind == kind));
            found.next().filter(|_| found.next().is_none())
        };
        single(None).or_else(|| single(Some(Kind::Media)))
    }
}

/// `name` without the name of the part of the data at its beginning or end.
fn without<'n>(name: &'n str, split: &str) -> Option<&'n str> {
    let in_front = name.strip_prefix(split).and_then(|rest| rest.strip_prefix(['_', '/', '.']));
    in_front.or_else(|| name.strip_suffix(split)?.strip_suffix(['_', '/', '.']))
}

fn listed(fields: &[Field]) -> String {
    let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn no_field(place: &Path, column: &str, key: &str, fields: &[Field]) -> Error {
    let (place, found) = (place.display(), listed(fields));
    let message = format!("{place} has no '{column}' to take '{key}' from; it has: {found}");
    Error::new(ErrorKind::Calibration, message)
}

fn no_array(place: &Path, input: &str, fields: &[Field], split: Option<&str>) -> Error {
    let part = split.map(|split| format!(" in its part '{split}'")).unwrap_or_default();
    let splits: Vec<&str> = SPLITS
        .into_iter()
        .filter(|split| fields.iter().any(|field| without(&field.name, split).is_some()))
        .collect();
    let hint = if split.is_none() && !splits.is_empty() {
        choose_part(&splits)
    } else {
        let column = format!("{input}=NAME");
        Hint::from(format!("save the samples under the name '{input}', or pass "))
            .option_as("column", column)
    };
    let (place, found) = (place.display(), listed(fields));
    let message =
        format!("{place} has no array for input '{input}'{part}; its arrays are: {found}");
    Error::new(ErrorKind::Calibration, message).hint(hint)
}

/// The hint if the data has several parts.
pub(super) fn choose_part(parts: &[&str]) -> Hint {
    let choose = Hint::from("choose a part of the data with ");
    parts.iter().enumerate().fold(choose, |hint, (nth, part)| {
        if nth > 0 { hint.then(" or ") } else { hint }.option_as("part", *part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::DataType;

    /// Names in the file, inputs, part of the data, expected arrays for the inputs and for labels.
    type Case = (
        &'static [&'static str],
        &'static [&'static str],
        Option<&'static str>,
        &'static [&'static str],
        Option<&'static str>,
    );

    fn ports(names: &[&str]) -> Vec<Port> {
        let port = |name: &&str| Port { name: name.to_string(), dtype: DataType::F32, shape: None };
        names.iter().map(port).collect()
    }

    fn chosen(names: &[&str], inputs: &[&str], split: Option<&str>) -> Result<Chosen> {
        let options = DataOptions { split: split.map(str::to_string), ..Default::default() };
        let fields: Vec<Field> = names.iter().map(|name| Field::array(*name)).collect();
        choose(&fields, Path::new("d.npz"), &ports(inputs), &options)
    }

    fn expected(inputs: &[&str], labels: Option<&str>) -> Chosen {
        let inputs = inputs.iter().map(|name| name.to_string()).collect();
        Chosen { inputs, labels: labels.map(str::to_owned) }
    }

    #[test]
    fn arrays_are_matched_by_name_or_as_the_only_one() {
        let cases: [Case; 7] = [
            (&["b", "a"], &["a", "b"], None, &["a", "b"], None),
            (&["arr_0"], &["image"], None, &["arr_0"], None),
            (&["x", "y"], &["image"], None, &["x"], Some("y")),
            (&["labels", "image", "extra"], &["image"], None, &["image"], Some("labels")),
            (&["x", "y", "labels"], &["x", "y"], None, &["x", "y"], Some("labels")),
            (
                &["test_images", "test_labels", "train_images"],
                &["image"],
                Some("test"),
                &["test_images"],
                Some("test_labels"),
            ),
            (
                &["x_train", "y_train", "x_test", "y_test"],
                &["x"],
                Some("train"),
                &["x_train"],
                Some("y_train"),
            ),
        ];
        for (names, inputs, split, arrays, labels) in cases {
            assert_eq!(chosen(names, inputs, split).unwrap(), expected(arrays, labels));
        }
    }

    #[test]
    fn the_only_pictures_feed_the_only_input_and_words_feed_none() {
        let field = |name: &str, kind| Field { name: name.into(), kind };
        let fields = [
            field("id", Kind::Array),
            field("image", Kind::Media),
            field("caption", Kind::Text),
            field("fine", Kind::Text),
        ];
        let choose = |columns: &[(&str, &str)], inputs: &[&str]| {
            let columns = columns.iter().map(|(key, name)| (key.to_string(), name.to_string()));
            let options = DataOptions { columns: columns.collect(), ..Default::default() };
            choose(&fields, Path::new("d"), &ports(inputs), &options)
        };
        assert_eq!(choose(&[], &["pixels"]).unwrap(), expected(&["image"], None));
        let by_option = choose(&[("labels", "fine"), ("pixels", "id")], &["pixels"]).unwrap();
        assert_eq!(by_option, expected(&["id"], Some("fine")));
        let two = choose(&[("a", "image")], &["a", "id"]).unwrap();
        assert_eq!(two, expected(&["image", "id"], None));
        let error = choose(&[("pixels", "gone")], &["pixels"]).unwrap_err().to_string();
        assert!(error.contains("no 'gone' to take 'pixels' from; it has: id, image"), "{error}");
        assert!(choose(&[], &["caption", "id"]).is_err());
    }

    #[test]
    fn an_input_without_array_is_told_what_there_is() {
        let cases: [(&[&str], Option<&str>, &str); 4] = [
            (&["a", "b"], None, "d.npz has no array for input 'image'; its arrays are: a, b; save"),
            (&[], None, "its arrays are: none"),
            (&["train_x", "test_x"], None, "with part=train or part=test"),
            (&["train_x"], Some("test"), "for input 'image' in its part 'test'"),
        ];
        for (names, split, expected) in cases {
            let error = chosen(names, &["image"], split).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Calibration);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
