//! The external data files that a model file names, found without reading its tensors.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use prost::Message;

use super::outline::{Graph, Node, Outline, Tensor};
use super::{no_model, opened};
use crate::error::{Context, Result};
use crate::onnx::external::{ExternalData, LOCATION};
use crate::onnx::proto::tensor_proto::DataLocation;

/// The external data files of the model file `path`: as the model names them, and where they are.
///
/// # Errors
/// As [`super::load`], for files that cannot be read or do not belong to the model.
pub(crate) fn data_files(path: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let found = || -> Result<BTreeMap<String, PathBuf>> {
        let (mut buffer, beginning) = opened(path)?;
        let model = Outline::decode(&mut buffer).map_err(|e| no_model(&beginning, Some(e)));
        let model = buffer.failure().map_or(model, |failure| Err(super::unreadable(failure)))?;
        let mut names = BTreeSet::new();
        model.graph.iter().for_each(|graph| graph.add(&mut names));
        let nodes = model.functions.iter().flat_map(|function| &function.nodes);
        nodes.for_each(|node| node.add(&mut names));
        let external = ExternalData::beside(path);
        names.into_iter().map(|name| Ok((name.clone(), external.resolve(&name)?))).collect()
    };
    found().in_model(path.display())
}

impl Graph {
    fn add(&self, names: &mut BTreeSet<String>) {
        self.initializers.iter().for_each(|tensor| tensor.add(names));
        self.nodes.iter().for_each(|node| node.add(names));
    }
}

impl Node {
    fn add(&self, names: &mut BTreeSet<String>) {
        for attribute in &self.attributes {
            let sparse = attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors);
            let parts = sparse.flat_map(|s| s.values.iter().chain(&s.indices));
            let tensors = attribute.tensor.iter().chain(&attribute.tensors).chain(parts);
            tensors.for_each(|tensor| tensor.add(names));
            let graphs = attribute.graph.iter().chain(&attribute.graphs);
            graphs.for_each(|graph| graph.add(names));
        }
    }
}

impl Tensor {
    fn add(&self, names: &mut BTreeSet<String>) {
        if self.data_location() == DataLocation::External {
            let location = self.external_data.iter().find(|entry| entry.key() == LOCATION);
            names.extend(location.map(|entry| entry.value().to_owned()));
        }
    }
}
