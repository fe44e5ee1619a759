//! Models in the form that a runtime takes and whose outputs are tensors.

use std::path::Path;

use bytes::Bytes;
use prost::Message;

use super::outline::Outline;
use super::{decode, load, opened};
use crate::error::Result;
use crate::ir::Model;
use crate::onnx::maps;

/// The model in these bytes without empty names behind the last input of a node, and with scores in place of
/// maps; `None` if it has neither.
///
/// # Errors
/// As [`decode`].
pub(crate) fn adapted(bytes: &[u8]) -> Result<Option<Model>> {
    match Outline::decode(bytes).is_ok_and(|outline| outline.must_change()) {
        true => decode(Bytes::copy_from_slice(bytes), None, "the model").map(changed).map(Some),
        false => Ok(None),
    }
}

/// As [`adapted`], of the model in this file.
///
/// # Errors
/// As [`load`].
pub(crate) fn adapted_file(path: &Path) -> Result<Option<Model>> {
    // A runtime tells best what is wrong with other files.
    let outline = opened(path).ok().and_then(|(mut file, _)| Outline::decode(&mut file).ok());
    match outline.is_some_and(|outline| outline.must_change()) {
        true => load(path).map(changed).map(Some),
        false => Ok(None),
    }
}

fn changed(model: Model) -> Model {
    maps::with_scores(&model).unwrap_or(model)
}

impl Outline {
    fn must_change(&self) -> bool {
        let mut nodes = self.graph.iter().flat_map(|graph| &graph.nodes);
        self.ends_empty() || nodes.any(|node| node.op.as_deref() == Some(maps::MAP.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;
    use crate::onnx::encode;
    use crate::onnx::proto::ModelProto;

    #[test]
    fn models_are_read_only_if_they_must_change() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (padding, op, is_read) in [(0, "Relu", false), (2, "Relu", true), (0, maps::MAP, true)]
        {
            let mut b = GraphBuilder::new("net", 17);
            let x = b.input("x", "n,3");
            let y = b.op(op, "y", &[x], []);
            let mut proto = ModelProto::decode(encode(&b.build(&[y])).unwrap().as_slice()).unwrap();
            let nodes = proto.graph.iter_mut().flat_map(|graph| &mut graph.node);
            nodes.for_each(|node| node.input.resize(1 + padding, String::new()));
            let bytes = proto.encode_to_vec();
            std::fs::write(file.path(), &bytes).unwrap();
            for model in [adapted(&bytes), adapted_file(file.path())] {
                let model = model.unwrap();
                assert_eq!(model.is_some(), is_read);
                let nodes = model.iter().flat_map(|model| model.graph.nodes());
                nodes.for_each(|(_, node)| assert_eq!(node.inputs.len(), 1));
            }
        }
        assert!(adapted(b"no model").unwrap().is_none());
        assert!(adapted_file(Path::new("/not/there")).unwrap().is_none());
    }
}
