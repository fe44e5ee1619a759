//! Computes half-precision nets in single precision.
//!
//! Half precision rounds away differences that statistics need, and its gradients overflow. So nets
//! with 16-bit weights are measured in single precision.

use std::sync::Arc;

use half::f16;

use super::{Backend, HostArray, ModelSource, Port, Session};
use crate::error::Result;
use crate::ir::{Attribute, DataType, Graph, Tensor, TensorType, ValueId, ValueKind};
use crate::onnx;

/// The backend for measuring these nets: `backend`, or, if any net has 16-bit floats, a wrapper that
/// converts all models to 32 bits.
pub fn measuring<'a>(
    backend: Arc<dyn Backend>,
    nets: impl IntoIterator<Item = &'a Graph>,
) -> Arc<dyn Backend> {
    if nets.into_iter().any(has_halves) { Arc::new(Wide(backend)) } else { backend }
}

/// Whether a value of the graph is a float of 16 bits.
fn has_halves(graph: &Graph) -> bool {
    graph.values().any(|(_, value)| match &value.kind {
        ValueKind::Initializer(tensor) => narrow(tensor.dtype),
        _ => value.ty.as_ref().is_some_and(|ty| narrow(ty.dtype)),
    })
}

fn narrow(dtype: DataType) -> bool {
    matches!(dtype, DataType::F16 | DataType::BF16)
}

struct Wide(Arc<dyn Backend>);

impl Backend for Wide {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    fn passed_over(&self) -> Option<&str> {
        self.0.passed_over()
    }

    fn load(&self, source: ModelSource<'_>) -> Result<Box<dyn Session>> {
        let mut model = match source {
            ModelSource::Bytes(bytes) => onnx::decode(bytes.to_vec().into(), None, "the model")?,
            ModelSource::File(path) => onnx::load(path)?,
            ModelSource::Graph(model) => model.clone(),
        };
        widen(&mut model.graph)?;
        let session = self.0.load(ModelSource::Graph(&model))?;
        Ok(Box::new(WideSession(session)))
    }
}

struct WideSession(Box<dyn Session>);

impl Session for WideSession {
    fn inputs(&self) -> &[Port] {
        self.0.inputs()
    }

    fn outputs(&self) -> &[Port] {
        self.0.outputs()
    }

    fn run(&mut self, inputs: &[(&str, &HostArray)]) -> Result<Vec<HostArray>> {
        let widened: Vec<(&str, Option<HostArray>)> =
            inputs.iter().map(|(name, array)| (*name, widened(array))).collect();
        let feeds: Vec<(&str, &HostArray)> = widened
            .iter()
            .zip(inputs)
            .map(|((name, wide), (_, given))| (*name, wide.as_ref().unwrap_or(given)))
            .collect();
        self.0.run(&feeds)
    }
}

/// The array in single precision, if it is in half precision.
fn widened(array: &HostArray) -> Option<HostArray> {
    match array {
        HostArray::F16(array) => Some(HostArray::F32(array.mapv(f16::to_f32))),
        _ => None,
    }
}

/// Converts all 16-bit floats of a graph and its sub-graphs to 32 bits.
fn widen(graph: &mut Graph) -> Result<()> {
    let values: Vec<ValueId> = graph.values().map(|(id, _)| id).collect();
    for id in values {
        if let ValueKind::Initializer(tensor) = &graph.value(id).kind
            && narrow(tensor.dtype)
        {
            let tensor = single(tensor)?;
            graph.set_initializer(id, tensor);
        }
        if let Some(ty) = graph.value(id).ty.clone().filter(|ty| narrow(ty.dtype)) {
            graph.set_type(id, Some(TensorType { dtype: DataType::F32, ..ty }));
        }
    }
    let nodes: Vec<_> = graph.nodes().map(|(id, _)| id).collect();
    for id in nodes {
        let mut outcome = Ok(());
        graph.edit_node(id, |node| {
            for (name, attribute) in &mut node.attributes {
                let done = widen_attribute(name, attribute);
                outcome = std::mem::replace(&mut outcome, Ok(())).and(done);
            }
        });
        outcome?;
    }
    Ok(())
}

fn widen_attribute(name: &str, attribute: &mut Attribute) -> Result<()> {
    let is_type = name == "to" || name == "dtype";
    match attribute {
        Attribute::Graph(inner) => widen(inner)?,
        Attribute::Tensor(tensor) if narrow(tensor.dtype) => *tensor = single(tensor)?,
        Attribute::Int(code)
            if is_type && i32::try_from(*code).is_ok_and(|c| narrow(DataType::from_code(c))) =>
        {
            *code = i64::from(DataType::F32.code());
        }
        _ => {}
    }
    Ok(())
}

fn single(tensor: &Tensor) -> Result<Tensor> {
    Ok(Tensor::from_f32(&tensor.to_f32()?))
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, ArrayD, IxDyn};

    use super::*;
    use crate::ir::builder::GraphBuilder;
    use crate::runtime::{RuntimeChoice, RuntimeOptions, feeds, open};

    /// y = x · w with everything of 16 bits; the factors, and the model.
    fn product() -> (ArrayD<f16>, ArrayD<f16>, Vec<u8>, Graph) {
        let halves = |rows: usize, columns: usize| {
            ArrayD::from_shape_fn(IxDyn(&[rows, columns]), |index| {
                f16::from_f32(1.0 + (index[0] * columns + index[1]) as f32 / 1000.0)
            })
        };
        let (x, w) = (halves(2, 64), halves(64, 3));
        let mut b = GraphBuilder::new("net", 13);
        let input = b.typed_input("x", DataType::F16, "batch,64");
        let data: Vec<u8> = w.iter().flat_map(|v| v.to_le_bytes()).collect();
        let tensor = Tensor { dtype: DataType::F16, dims: vec![64, 3], data: data.into() };
        let weight = b.constant("w", tensor);
        let y = b.op("MatMul", "y", &[input, weight], []);
        let model = b.build(&[y]);
        (x, w, onnx::encode(&model).unwrap(), model.graph)
    }

    #[test]
    fn products_of_halves_are_measured_without_rounding() {
        let (x, w, bytes, graph) = product();
        let options = RuntimeOptions { choice: RuntimeChoice::Tract, ..RuntimeOptions::default() };
        let backend = measuring(open(&options).unwrap(), [&graph]);
        let mut session = backend.load(ModelSource::Bytes(&bytes)).unwrap();
        let inputs = [("x".to_owned(), HostArray::F16(x.clone()))];
        let found = session.run(&feeds(&inputs)).unwrap();
        let HostArray::F32(found) = &found[0] else { panic!("{:?}", found[0].dtype()) };
        let single = |array: ArrayD<f16>| -> Array2<f32> {
            array.mapv(f16::to_f32).into_dimensionality().unwrap()
        };
        let right = single(x).dot(&single(w)).into_dyn();
        let off = (found - &right).mapv(f32::abs).into_iter().max_by(f32::total_cmp).unwrap_or(0.0);
        assert!(off < 1e-4 * 64.0, "{off}");
    }

    #[test]
    fn other_nets_are_measured_as_they_are() {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "n,3");
        let y = b.op("Relu", "y", &[x], []);
        let model = b.build(&[y]);
        let backend = open(&RuntimeOptions::default()).unwrap();
        assert!(Arc::ptr_eq(&measuring(Arc::clone(&backend), [&model.graph]), &backend));
    }
}
