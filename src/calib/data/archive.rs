//! Named arrays in `.npz` and `.npy` files, and which of them feeds which input.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use zip::ZipArchive;

use super::npy;
use super::options::DataOptions;
use super::rows::{Arrays, Rows};
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::runtime::Port;

/// What arrays in memory are called in messages.
const IN_MEMORY: &str = "the data";

/// Names under which labels are looked for.
const LABELS: [&str; 5] = ["labels", "y", "label", "targets", "target"];

/// Names that parts of a dataset go by.
const SPLITS: [&str; 7] = ["train", "test", "val", "valid", "validation", "dev", "eval"];

/// An array with the name that its file gives it.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) array: Arc<dyn Rows>,
}

/// The arrays for `ports`, in their order, and the labels.
pub(super) struct Matched {
    pub(super) inputs: Vec<Named>,
    pub(super) labels: Option<Named>,
}

/// Reads what `ports` need from a `.npz` archive. Other arrays in it are not read.
///
/// # Errors
/// [`ErrorKind::Io`] where the file cannot be opened; [`ErrorKind::Calibration`] where it is damaged
/// or has no array for one of the inputs.
pub(super) fn read_npz(file: &Path, ports: &[Port], options: &DataOptions) -> Result<Matched> {
    let damaged = |error: zip::result::ZipError| {
        Error::new(
            ErrorKind::Calibration,
            format!("{} is not a whole .npz archive", file.display()),
        )
        .because(error)
    };
    let mut archive = ZipArchive::new(BufReader::new(open(file)?)).map_err(damaged)?;
    let entries: Vec<String> = archive.file_names().map(str::to_string).collect();
    let names = entries.iter().map(|entry| entry.strip_suffix(".npy").unwrap_or(entry)).collect();
    let chosen = choose(names, file, ports, options)?;
    let mut read = |name: &str| {
        let entry = format!("{name}.npy");
        let entry = entries.iter().find(|e| **e == entry).map_or(name, String::as_str);
        let entry = archive.by_name(entry).map_err(damaged)?;
        let length = entry.size();
        let array = npy::read(entry, length).map_err(|clause| wrong_array(file, name, &clause))?;
        Ok(Named { name: name.to_string(), array: Arc::new(array) })
    };
    Ok(Matched {
        inputs: chosen.inputs.iter().map(|name| read(name)).collect::<Result<_>>()?,
        labels: chosen.labels.map(read).transpose()?,
    })
}

/// Reads a `.npy` file, which holds the one input of the model.
///
/// # Errors
/// As [`read_npz`].
pub(super) fn read_npy(file: &Path, ports: &[Port]) -> Result<Matched> {
    let [_] = ports else {
        return Err(Error::new(
            ErrorKind::Calibration,
            format!("{} holds one array, but the model has {} inputs", file.display(), ports.len()),
        )
        .hint(format!("save a .npz with the arrays {}", quoted(ports))));
    };
    let opened = open(file)?;
    let length = opened.metadata().map_err(|error| unreadable(file, error))?.len();
    let array = npy::read(BufReader::new(opened), length).map_err(|clause| {
        Error::new(ErrorKind::Calibration, format!("{} {clause}", file.display()))
    })?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Matched { inputs: vec![Named { name, array: Arc::new(array) }], labels: None })
}

/// Picks what `ports` need from arrays in memory.
///
/// # Errors
/// [`ErrorKind::Calibration`] where there is no array for one of the inputs, or too many.
pub(super) fn pick(arrays: &Arrays, ports: &[Port], options: &DataOptions) -> Result<Matched> {
    let file = Path::new(IN_MEMORY);
    let in_order = || ports.iter().map(|port| port.name.clone()).chain([LABELS[0].to_owned()]);
    let names = match &arrays.names {
        Some(names) => names.clone(),
        None => in_order().take(arrays.arrays.len()).collect(),
    };
    if names.len() < arrays.arrays.len() {
        let (found, inputs) = (arrays.arrays.len(), ports.len());
        return Err(Error::new(
            ErrorKind::Calibration,
            format!(
                "{file} has {found} arrays, but the model has {inputs} inputs",
                file = IN_MEMORY
            ),
        )
        .hint("give one array per input, and perhaps one of labels behind them"));
    }
    let chosen = choose(names.iter().map(String::as_str).collect(), file, ports, options)?;
    let named = |name: &str| {
        let array = names.iter().zip(&arrays.arrays).find(|(own, _)| *own == name);
        array.map(|(_, array)| Named { name: name.to_owned(), array: Arc::clone(array) })
    };
    Ok(Matched {
        inputs: chosen.inputs.iter().filter_map(|name| named(name)).collect(),
        labels: chosen.labels.and_then(named),
    })
}

/// An error about one array of a file.
pub(super) fn wrong_array(file: &Path, array: &str, clause: &str) -> Error {
    Error::new(ErrorKind::Calibration, format!("{}: array '{array}' {clause}", file.display()))
}

/// An error about a file that cannot be read at all.
pub(super) fn unreadable(file: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{} cannot be read", file.display())).because(error)
}

fn open(file: &Path) -> Result<File> {
    File::open(file).map_err(|error| unreadable(file, error))
}

#[derive(Debug, PartialEq)]
struct Chosen<'n> {
    inputs: Vec<&'n str>,
    labels: Option<&'n str>,
}

fn choose<'n>(
    names: Vec<&'n str>,
    file: &Path,
    ports: &[Port],
    options: &DataOptions,
) -> Result<Chosen<'n>> {
    // Pairs of the name in the file and the name without the part of the data it belongs to.
    let usable: Vec<(&str, &str)> = match &options.split {
        None => names.iter().map(|name| (*name, *name)).collect(),
        Some(split) => {
            names.iter().filter_map(|name| Some((*name, without(name, split)?))).collect()
        }
    };
    let by_short_name =
        |wanted: &str| usable.iter().find(|(_, short)| *short == wanted).map(|(name, _)| *name);
    let is_input = |name: &str| ports.iter().any(|port| by_short_name(&port.name) == Some(name));
    let labels =
        LABELS.iter().filter_map(|label| by_short_name(label)).find(|name| !is_input(name));
    let mut others = usable.iter().map(|(name, _)| *name).filter(|name| Some(*name) != labels);
    let only = match (ports, others.next(), others.next()) {
        ([_], Some(only), None) => Some(only),
        _ => None,
    };
    let inputs = ports.iter().map(|port| {
        by_short_name(&port.name)
            .or(only)
            .ok_or_else(|| no_array(file, &port.name, &names, options.split.as_deref()))
    });
    Ok(Chosen { inputs: inputs.collect::<Result<_>>()?, labels })
}

/// `name` without the part of the data that it names in front or at the end.
fn without<'n>(name: &'n str, split: &str) -> Option<&'n str> {
    let in_front = name.strip_prefix(split).and_then(|rest| rest.strip_prefix(['_', '/', '.']));
    in_front.or_else(|| name.strip_suffix(split)?.strip_suffix(['_', '/', '.']))
}

fn no_array(file: &Path, input: &str, names: &[&str], split: Option<&str>) -> Error {
    let part = split.map(|split| format!(" in its part '{split}'")).unwrap_or_default();
    let found = if names.is_empty() { "none".to_string() } else { names.join(", ") };
    let splits: Vec<&str> = SPLITS
        .into_iter()
        .filter(|split| names.iter().any(|name| without(name, split).is_some()))
        .collect();
    let hint = if split.is_none() && !splits.is_empty() {
        let choose = Hint::from("choose a part of the data with ");
        splits.iter().enumerate().fold(choose, |hint, (nth, split)| {
            if nth > 0 { hint.then(" or ") } else { hint }.option_as("part", *split)
        })
    } else {
        Hint::from(format!("save the samples under the name '{input}'"))
    };
    Error::new(
        ErrorKind::Calibration,
        format!(
            "{} has no array for input '{input}'{part}; its arrays are: {found}",
            file.display()
        ),
    )
    .hint(hint)
}

fn quoted(ports: &[Port]) -> String {
    let names: Vec<String> = ports.iter().map(|port| format!("'{}'", port.name)).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::DataType;

    /// Names in the file, inputs, part of the data, arrays expected for the inputs and as labels.
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

    fn chosen<'n>(names: &[&'n str], inputs: &[&str], split: Option<&str>) -> Result<Chosen<'n>> {
        let options = DataOptions { split: split.map(str::to_string), ..Default::default() };
        choose(names.to_vec(), Path::new("d.npz"), &ports(inputs), &options)
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
        for (names, inputs, split, expected, labels) in cases {
            let expected = Chosen { inputs: expected.to_vec(), labels };
            assert_eq!(chosen(names, inputs, split).unwrap(), expected);
        }
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
