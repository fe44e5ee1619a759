//! Checks of options about samples, before any are read.

use std::collections::BTreeSet;

use super::{Given, Net};
use crate::calib::data::{Extents, LABELS_KEY, unknown};
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::naming::{counted, shown};
use crate::runtime::Port;

impl Given<'_> {
    /// Checks that sizes are given for extents that the nets leave open.
    pub(super) fn check_sizes(&self, nets: &[Net<'_>]) -> Result<()> {
        let given: Extents = self.options.dim.iter().cloned().collect();
        let ports: Vec<&[Port]> = nets.iter().map(|net| net.ports).collect();
        let Some((name, open)) = unknown(&ports, &given) else { return Ok(()) };
        let message = format!("'{}' is no size that the models' inputs leave open", shown(&name));
        let hint = match open.is_empty() {
            true => Hint::from("they leave none open: leave out ").option("dim"),
            false => {
                let open: Vec<String> = open.iter().map(|name| shown(name).into_owned()).collect();
                let first = open.first().map(|name| format!("{name}=224")).unwrap_or_default();
                let hint = format!("they leave open {}: give ", open.join(", "));
                Hint::from(hint).option_as("dim", first)
            }
        };
        Err(Error::new(ErrorKind::Usage, message).hint(hint))
    }

    /// Checks that columns are given for inputs of the nets, or for labels.
    pub(super) fn check_columns(&self, nets: &[Net<'_>]) -> Result<()> {
        let ports = nets.iter().flat_map(|net| net.ports);
        let inputs: BTreeSet<&str> = ports.map(|port| port.name.as_str()).collect();
        let is_known = |key: &str| key == LABELS_KEY || inputs.contains(key);
        let Some((key, column)) = self.options.column.iter().find(|(key, _)| !is_known(key)) else {
            return Ok(());
        };
        let message = format!("'{}' is no input of the models, nor '{LABELS_KEY}'", shown(key));
        let known: Vec<_> = inputs.iter().map(|name| shown(name)).collect();
        let hint = format!("their inputs are {}: give ", known.join(", "));
        let first = inputs.first().copied().unwrap_or(LABELS_KEY);
        let hint = Hint::from(hint).option_as("column", format!("{first}={column}"));
        let labels = hint.then(" or ").option_as("column", format!("{LABELS_KEY}={column}"));
        Err(Error::new(ErrorKind::Usage, message).hint(labels))
    }

    /// Checks that samples are given once, once per net, or once per file of a model.
    pub(super) fn check_count(&self, nets: &[Net<'_>]) -> Result<()> {
        let given = self.inputs.len();
        let files = nets.iter().map(|net| net.file).max().map_or(0, |last| last + 1);
        if given <= 1 || given == nets.len() || given == files {
            return Ok(());
        }
        let (times, models) = (counted(given, "time"), counted(nets.len(), "model"));
        let message = format!("samples were given {times} for {models}");
        let hint = Hint::from("give ").option("data");
        Err(Error::new(ErrorKind::Usage, message)
            .hint(hint.then(" once, or once per model in the models' order")))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::api::options::SampleOptions;
    use crate::ir::DataType;

    #[test]
    fn columns_that_feed_nothing_are_refused() {
        let port = |name: &str| Port { name: name.into(), dtype: DataType::F32, shape: None };
        let (a, b) = ([port("x"), port("mask")], [port("pixels")]);
        let net = |ports| Net {
            name: "net",
            ports,
            file: 0,
            source: None,
            tables: BTreeMap::new(),
            classes: None,
        };
        let nets = [net(&a), net(&b)];
        let checked = |key: &str| {
            let column = vec![(key.to_owned(), "col".to_owned())];
            let options = SampleOptions { column, ..SampleOptions::default() };
            Given { inputs: &[], options: &options }.check_columns(&nets)
        };
        for known in ["labels", "x", "mask", "pixels"] {
            checked(known).unwrap();
        }
        let error = checked("lables").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        let text = error.with_flags().to_string();
        let wanted =
            "'lables' is no input of the models, nor 'labels'; their inputs are mask, pixels, x";
        assert!(text.contains(wanted), "{text}");
    }
}
