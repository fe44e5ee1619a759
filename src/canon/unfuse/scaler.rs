//! Scaling of features.

use ndarray::ArrayD;

use crate::ir::{Attribute, DataType, Tensor, ValueId};

use super::{Site, types};

/// `(x − offset) · scale`, with one number for all features, or one for each.
pub(super) fn scaler(site: &mut Site<'_>) -> Option<ValueId> {
    let input = site.input(0)?;
    let ty = types::of(site.graph, input).filter(|ty| ty.dtype == DataType::F32)?;
    let features = match ty.shape?.as_slice() {
        [features] | [_, features] => features.known()?,
        _ => return None,
    };
    let (offset, scale) = (numbers(site, "offset", features)?, numbers(site, "scale", features)?);
    let centred = site.op("Sub", &[input, offset]);
    Some(site.op("Mul", &[centred, scale]))
}

/// The numbers in attribute `name` as a constant; `None` if they are not as many as the features.
fn numbers(site: &mut Site<'_>, name: &str, features: usize) -> Option<ValueId> {
    let Some(Attribute::Floats(values)) = site.node().attributes.get(name) else { return None };
    let fits = values.len() == 1 || values.len() == features;
    let tensor =
        Tensor::from_f32(&ArrayD::from_shape_vec(vec![values.len()], values.clone()).ok()?);
    let name = format!("{}.{name}", site.name);
    fits.then(|| site.graph.add_initializer(&name, tensor))
}

#[cfg(test)]
mod tests {
    use crate::canon::{CanonOptions, canonicalise};
    use crate::ir::Model;
    use crate::ir::builder::GraphBuilder;

    use super::*;

    /// A scaler in front of a layer, with as many factors as `scale`.
    fn net(dims: &str, scale: &[f32]) -> Model {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", dims);
        let attributes = [
            ("offset", Attribute::Floats(vec![0.5; 4])),
            ("scale", Attribute::Floats(scale.to_vec())),
        ];
        let y = b.op("Scaler", "scaler", &[x], attributes);
        let graph = b.graph();
        let node = graph.producer(y).unwrap();
        graph.edit_node(node, |node| node.domain = "ai.onnx.ml".to_owned());
        let w = b.weights("w", &[4, 3]);
        let y = b.op("MatMul", "fc", &[y, w], []);
        let mut model = b.build(&[y]);
        model.opsets.insert("ai.onnx.ml".to_owned(), 3);
        model
    }

    fn operators(model: Model) -> Vec<String> {
        let model = canonicalise(model, &CanonOptions::default()).unwrap();
        let order = model.graph.topological_order().unwrap();
        order.iter().map(|id| model.graph.node(*id).op.clone()).collect()
    }

    #[test]
    fn scalers_are_arithmetic_where_all_features_have_a_number() {
        assert_eq!(operators(net("n,4", &[2.0])), ["Sub", "Mul", "Gemm"]);
        assert_eq!(operators(net("n,4", &[1.0, 2.0, 3.0, 4.0])), ["Sub", "Mul", "Gemm"]);
        // The layer behind is seen all the same.
        assert_eq!(operators(net("n,4", &[1.0, 2.0])), ["Scaler", "Gemm"]);
        assert_eq!(operators(net("n,features", &[2.0])), ["Scaler", "Gemm"]);
    }
}
