//! One model in ONNX Runtime.

use std::borrow::Cow;

use ::ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ::ort::session::{Session as Inner, SessionInputValue};
use ::ort::value::{DynValue, Outlet, Tensor, TensorElementType, TensorRef, ValueType};

use super::super::array::with_array;
use super::super::port::{in_port_order, named_dim};
use super::super::shield::shielded;
use super::super::{HostArray, ModelSource, Port, Session};
use super::weight::Weight;
use super::{OnnxRuntime, cuda, failed};
use crate::error::{Error, ErrorKind, Result};
use crate::ir::{DataType, Dim, Model};
use crate::onnx::{self, Apart};

/// With this many bytes of weights or more, kernels must not keep a second copy for speed.
const HEAVY: usize = 64 << 20;

pub(super) struct OrtSession {
    pub(super) inner: Inner,
    inputs: Vec<Port>,
    pub(super) outputs: Vec<Port>,
    /// Weights that are the last inputs of every run.
    fed: Vec<Weight>,
}

impl OrtSession {
    pub(super) fn load(runtime: &OnnxRuntime, source: ModelSource<'_>) -> Result<Self> {
        // A device would get them anew in every run.
        let heavy = if runtime.cuda.is_some() { usize::MAX } else { HEAVY };
        OrtSession::feeding(runtime, source, heavy)
    }

    /// A session that holds all its weights.
    pub(super) fn holding(runtime: &OnnxRuntime, source: ModelSource<'_>) -> Result<Self> {
        OrtSession::feeding(runtime, source, usize::MAX)
    }

    /// A session that feeds large weights if they have at least `heavy` bytes.
    fn feeding(runtime: &OnnxRuntime, source: ModelSource<'_>, heavy: usize) -> Result<Self> {
        source.check_readable()?;
        let mut builder = configured(runtime)?;
        let (inner, fed) = match (source, adapted(source)?) {
            (_, Some(model)) => match onnx::encode(&model) {
                Ok(bytes) => (builder.commit_from_memory(&bytes).map_err(failed)?, Vec::new()),
                // One message does not hold the model.
                Err(_) => from_graph(builder, &model, heavy)?,
            },
            (ModelSource::Bytes(bytes), None) => {
                (builder.commit_from_memory(bytes).map_err(failed)?, Vec::new())
            }
            (ModelSource::File(path), None) => {
                (builder.commit_from_file(path).map_err(failed)?, Vec::new())
            }
            (ModelSource::Graph(model), None) => from_graph(builder, model, heavy)?,
        };
        let own = inner.inputs().len().saturating_sub(fed.len());
        let inputs = inner.inputs().iter().take(own).map(port).collect();
        let outputs = inner.outputs().iter().map(port).collect();
        Ok(OrtSession { inner, inputs, outputs, fed })
    }
}

/// The model, if it must be changed for ONNX Runtime. Where a node lists inputs that are left out behind its last
/// one, it looks for some of them by number, and the process ends where it finds none; a graph is written without
/// them. Maps of scores are read as scores.
fn adapted(source: ModelSource<'_>) -> Result<Option<Model>> {
    match source {
        ModelSource::Bytes(bytes) => onnx::adapted(bytes),
        ModelSource::File(path) => onnx::adapted_file(path),
        ModelSource::Graph(model) => Ok(onnx::with_scores(model)),
    }
}

/// Passes large weights apart from the message. Inside it, they would take memory twice more: as bytes
/// and as decoded tensors. Weights that are fed take no memory at all beside the model.
fn from_graph(
    mut builder: SessionBuilder,
    model: &Model,
    heavy: usize,
) -> Result<(Inner, Vec<Weight>)> {
    let Apart { message, tensors, fed } =
        onnx::encode_apart(model, |ty| ty == DataType::F32, heavy)?;
    let total: usize = tensors.iter().map(|(_, tensor)| tensor.data.len()).sum();
    for (name, tensor) in tensors {
        let value = Tensor::from_array(tensor.to_f32()?).map_err(failed)?;
        builder = builder.with_external_initializer(name, value.into_dyn()).map_err(failed)?;
    }
    // Prepacking copies weights into the layouts of kernels.
    builder = builder.with_prepacking(total < HEAVY).map_err(failed)?;
    let session = builder.commit_from_memory(&message).map_err(failed)?;
    Ok((session, fed.into_iter().map(|(_, tensor)| Weight::new(tensor)).collect::<Result<_>>()?))
}

/// Session options: all optimisations; no spinning, because other threads use the same cores;
/// deterministic kernels. Quantised nodes are computed as in the standard. Integer kernels would round
/// biases, too, and a graph's form decides which layers get them.
fn configured(runtime: &OnnxRuntime) -> Result<SessionBuilder> {
    let mut builder = Inner::builder(&runtime.loaded.environment)
        .and_then(|b| Ok(b.with_optimization_level(GraphOptimizationLevel::All)?))
        .and_then(|b| Ok(b.with_deterministic_compute(true)?))
        .and_then(|b| Ok(b.with_intra_op_spinning(false)?))
        .and_then(|b| Ok(b.with_inter_op_spinning(false)?))
        .and_then(|b| Ok(b.with_config_entry("session.disable_quant_qdq", "1")?))
        .map_err(failed)?;
    if let Some(threads) = runtime.threads {
        builder = builder.with_intra_threads(threads.max(1)).map_err(failed)?;
    }
    if let Some(number) = runtime.cuda {
        builder = builder.with_execution_providers([cuda::provider(number)]).map_err(failed)?;
    }
    Ok(builder)
}

impl Session for OrtSession {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn run(&mut self, inputs: &[(&str, &HostArray)]) -> Result<Vec<HostArray>> {
        let OrtSession { inner, inputs: ports, outputs, fed } = self;
        let arrays: Vec<Cow<'_, HostArray>> =
            in_port_order(ports, inputs)?.into_iter().map(HostArray::row_major).collect();
        shielded("running the model in ONNX Runtime", || {
            let weights = fed.iter().map(Weight::value);
            let values: Vec<SessionInputValue<'_>> =
                arrays.iter().map(|array| to_value(array)).chain(weights).collect::<Result<_>>()?;
            let results = inner.run(values.as_slice()).map_err(failed)?;
            results
                .into_iter()
                .zip(outputs.iter())
                .map(|((_, value), port)| from_value(&value, port))
                .collect()
        })
    }
}

fn to_value(array: &HostArray) -> Result<SessionInputValue<'_>> {
    with_array!(array, a => {
        TensorRef::from_array_view(a.view()).map(SessionInputValue::from).map_err(failed)
    }, texts => {
        Tensor::from_string_array(texts).map(SessionInputValue::from).map_err(failed)
    })
}

pub(super) fn from_value(value: &DynValue, port: &Port) -> Result<HostArray> {
    macro_rules! extract {
        ($($element:ident => $rust:ty),* $(,)?) => {
            match value.dtype().tensor_type() {
                $(Some(TensorElementType::$element) => {
                    Ok(value.try_extract_array::<$rust>().map_err(failed)?.to_owned().into())
                })*
                Some(TensorElementType::String) => {
                    Ok(value.try_extract_string_array().map_err(failed)?.into())
                }
                _ => Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("output '{}' is {}, which is not handled", port.name, value.dtype()),
                ).hint("take this output off the model, or cast it to floats")),
            }
        };
    }
    extract!(
        Float32 => f32,
        Float64 => f64,
        Float16 => half::f16,
        Int64 => i64,
        Int32 => i32,
        Int16 => i16,
        Int8 => i8,
        Uint64 => u64,
        Uint32 => u32,
        Uint16 => u16,
        Uint8 => u8,
        Bool => bool,
    )
}

fn port(outlet: &Outlet) -> Port {
    let (dtype, shape) = match outlet.dtype() {
        ValueType::Tensor { ty, shape, dimension_symbols } => {
            let dim = |(axis, size): (usize, &i64)| match usize::try_from(*size) {
                Ok(size) => Dim::Known(size),
                Err(_) => dimension_symbols.get(axis).map_or(Dim::Unknown, |name| named_dim(name)),
            };
            // ONNX Runtime reports an unknown rank as rank 0.
            let dims: Vec<Dim> = shape.iter().enumerate().map(dim).collect();
            (data_type(*ty), (!dims.is_empty()).then_some(dims))
        }
        _ => (DataType::Other(0), None),
    };
    Port { name: outlet.name().to_string(), dtype, shape }
}

fn data_type(element: TensorElementType) -> DataType {
    match element {
        TensorElementType::Float32 => DataType::F32,
        TensorElementType::Float64 => DataType::F64,
        TensorElementType::Float16 => DataType::F16,
        TensorElementType::Bfloat16 => DataType::BF16,
        TensorElementType::Int8 => DataType::I8,
        TensorElementType::Int16 => DataType::I16,
        TensorElementType::Int32 => DataType::I32,
        TensorElementType::Int64 => DataType::I64,
        TensorElementType::Uint8 => DataType::U8,
        TensorElementType::Uint16 => DataType::U16,
        TensorElementType::Uint32 => DataType::U32,
        TensorElementType::Uint64 => DataType::U64,
        TensorElementType::Bool => DataType::Bool,
        TensorElementType::String => DataType::STRING,
        // Anything that is not a tensor of the standard.
        _ => DataType::Other(0),
    }
}
