//! tract, the built-in runtime.

mod failure;
mod formulas;
mod graph;
mod magnitude;
mod recent;

use std::collections::HashMap;
use std::sync::Arc;

// tract computes with ndarray, and ndarray with BLAS, which this crate links.
use ndarray_linalg as _;
use tract_core::optim::Optimizer;
use tract_core::prelude::*;
use tract_onnx::prelude::{InferenceFact, InferenceModel, InferenceModelExt};
use tract_onnx::tract_hir::infer::{DimFact, ShapeFactoid};

use self::failure::failed;
use self::graph::{Parsed, complete, datum_type, is_complete, parse};
use self::recent::Recent;
use super::array::with_array;
use super::port::in_port_order;
use super::shield::shielded;
use super::{Backend, Device, HostArray, ModelSource, Opened, Port, RuntimeOptions, Session};
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::ir::Dim;

type Plan = Arc<TypedRunnableModel>;

/// The version in Cargo.toml; the crate does not export it.
const VERSION: &str = "0.23";

struct Tract;

pub(super) fn open(options: &RuntimeOptions) -> Result<Opened> {
    Ok(match options.device {
        Device::Auto | Device::Cpu => Opened::Ready(Arc::new(Tract)),
        Device::Cuda(number) => Opened::Missing(
            Error::new(
                ErrorKind::Backend,
                format!("device cuda:{number} cannot be used: tract computes on the CPU only"),
            )
            .hint(
                Hint::from("use ")
                    .option_as("runtime", "ort")
                    .then(", or ")
                    .option_as("device", "cpu"),
            ),
        ),
    })
}

impl Backend for Tract {
    fn name(&self) -> &'static str {
        "tract"
    }

    fn describe(&self) -> String {
        format!("tract {VERSION} (CPU)")
    }

    fn load(&self, source: ModelSource<'_>) -> Result<Box<dyn Session>> {
        Ok(Box::new(TractSession::load(source)?))
    }
}

/// One model in tract.
///
/// One plan serves all shapes, with symbols for open sizes, if the model can be planned and run that way. If more than
/// the batch is open, it comes late, because formulas of sizes may take a hundred times as long to plan with as numbers:
/// first, a plan is made for each set of input shapes, and the last few are kept. With long formulas, it does not come.
struct TractSession {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    concrete: Recent<Vec<Vec<usize>>, Plan>,
    symbolic: Symbolic,
    /// The source of plans, which share its weights.
    model: InferenceModel,
}

/// The plan for all shapes.
enum Symbolic {
    Untried,
    Planned(Plan),
    Unusable,
}

/// Plans that are made before one is made for all shapes.
const SEVERAL: usize = 4;

/// Limit of elements of the constants of a model of which several plans are kept: each has a copy of them.
const SMALL: usize = 1 << 20;

/// Limit of plans of such a model.
const MOST_OF_SMALL: usize = 8;

impl TractSession {
    fn load(source: ModelSource<'_>) -> Result<Self> {
        let parsed = shielded("reading the model into tract", || parse(source))?;
        let Parsed { inputs, outputs, elements, long_formulas, model } = parsed;
        let most = if elements <= SMALL { MOST_OF_SMALL } else { 1 };
        let symbolic = if long_formulas { Symbolic::Unusable } else { Symbolic::Untried };
        let concrete = Recent::new(most);
        let mut session = TractSession { inputs, outputs, concrete, symbolic, model };
        match known_shapes(&session.inputs, None) {
            Some(shapes) => {
                session.plan_for_shapes(shapes)?;
            }
            None if session.needs_plan() => session.plan_for_any(),
            None => {}
        }
        session.complete();
        Ok(session)
    }

    /// Whether a plan is made before shapes are known: to tell the types of outputs, or since only the batch is open,
    /// so that formulas are short. Plans for numbers hold one more copy of the weights.
    fn needs_plan(&self) -> bool {
        !self.outputs.iter().all(is_complete) || known_shapes(&self.inputs, Some(1)).is_some()
    }

    /// Makes a plan for all shapes, or else for one sample; without one, outputs are as the file declares them.
    fn plan_for_any(&mut self) {
        if matches!(self.symbolic, Symbolic::Untried) {
            self.plan_for_all();
        }
        if let (Symbolic::Unusable, Some(shapes)) =
            (&self.symbolic, known_shapes(&self.inputs, Some(1)))
        {
            let _ = self.plan_for_shapes(shapes);
        }
    }

    /// Gives outputs with only a name in the file the type and rank of a plan.
    fn complete(&mut self) {
        let plan = match &self.symbolic {
            Symbolic::Planned(plan) => Some(plan),
            _ => self.concrete.last(),
        };
        let Some(plan) = plan else { return };
        for (index, port) in self.outputs.iter_mut().enumerate() {
            if let Ok(fact) = plan.model().output_fact(index) {
                complete(port, fact);
            }
        }
    }

    fn plan_for_shapes(&mut self, shapes: Vec<Vec<usize>>) -> Result<Plan> {
        self.concrete.get(shapes, |shapes| plan_for(&self.model, &self.inputs, shapes))
    }

    fn plan_for_all(&mut self) {
        let planned = shielded("planning the model in tract", || {
            plan(&self.model, &self.inputs, &symbolic_shapes(&self.inputs, &self.model)?)
        });
        self.symbolic = planned.map_or(Symbolic::Unusable, Symbolic::Planned);
    }

    /// The plan for all shapes, if these ones come after several others.
    fn symbolic_for(&mut self, shapes: &Vec<Vec<usize>>) -> Option<Plan> {
        if self.concrete.has(shapes) {
            return None;
        }
        if matches!(self.symbolic, Symbolic::Untried) && self.concrete.made() >= SEVERAL {
            self.plan_for_all();
        }
        match &self.symbolic {
            Symbolic::Planned(plan) => Some(plan.clone()),
            Symbolic::Untried | Symbolic::Unusable => None,
        }
    }
}

impl Session for TractSession {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn run(&mut self, inputs: &[(&str, &HostArray)]) -> Result<Vec<HostArray>> {
        let arrays = in_port_order(&self.inputs, inputs)?;
        let shapes: Vec<Vec<usize>> = arrays.iter().map(|array| array.shape().to_vec()).collect();
        let symbolic = self.symbolic_for(&shapes);
        if let Some(plan) = &symbolic
            && let Ok(outputs) = compute(plan, &arrays, &self.outputs)
        {
            return Ok(outputs);
        }
        let planned = self.plan_for_shapes(shapes);
        if planned.is_err() && matches!(self.symbolic, Symbolic::Untried) {
            self.plan_for_all();
            if let Symbolic::Planned(plan) = &self.symbolic {
                return compute(plan, &arrays, &self.outputs);
            }
        }
        let outputs = compute(&planned?, &arrays, &self.outputs)?;
        if symbolic.is_some() {
            // This run proves that the symbolic plan was at fault, not the data.
            self.symbolic = Symbolic::Unusable;
        }
        Ok(outputs)
    }
}

/// The inputs' shapes, if all sizes are known but perhaps the batch, which is `batch` where it is open.
fn known_shapes(inputs: &[Port], batch: Option<usize>) -> Option<Vec<Vec<usize>>> {
    let known = |port: &Port| {
        let dims = port.shape.as_ref()?.iter().enumerate();
        dims.map(|(axis, dim)| dim.known().or(batch.filter(|_| axis == 0))).collect()
    };
    inputs.iter().map(known).collect()
}

/// The inputs' shapes with a symbol for each open size. A leading size without a name is taken for
/// the batch, the same one in all inputs.
fn symbolic_shapes(inputs: &[Port], model: &InferenceModel) -> Result<Vec<Vec<TDim>>> {
    let mut numbers: HashMap<String, usize> = HashMap::new();
    let mut symbol = |key: String| {
        let next = numbers.len();
        let number = *numbers.entry(key).or_insert(next);
        model.symbols.sym(&format!("size{number}")).to_dim()
    };
    let mut shape = |port: &Port| -> Option<Vec<TDim>> {
        let dims = port.shape.as_ref()?.iter().enumerate();
        let dims = dims.map(|(axis, dim)| match dim {
            Dim::Known(size) => size.to_dim(),
            Dim::Symbol(name) => symbol(format!("named {name}")),
            Dim::Formula(size) => symbol(format!("computed as {size}")),
            Dim::Unknown if axis == 0 => symbol("batch".to_string()),
            Dim::Unknown => symbol(format!("axis {axis} of {}", port.name)),
        });
        Some(dims.collect())
    };
    inputs
        .iter()
        .map(|port| {
            shape(port).ok_or_else(|| {
                let message = format!("tract: the rank of input '{}' is not known", port.name);
                Error::new(ErrorKind::Backend, message)
                    .hint(Hint::from("use ").option_as("runtime", "ort"))
            })
        })
        .collect()
}

fn plan_for(model: &InferenceModel, inputs: &[Port], shapes: &[Vec<usize>]) -> Result<Plan> {
    let dims: Vec<Vec<TDim>> =
        shapes.iter().map(|shape| shape.iter().map(|size| size.to_dim()).collect()).collect();
    shielded("planning the model in tract", || plan(model, inputs, &dims))
}

fn plan(model: &InferenceModel, inputs: &[Port], shapes: &[Vec<TDim>]) -> Result<Plan> {
    let mut model = model.clone();
    for (index, (port, shape)) in inputs.iter().zip(shapes).enumerate() {
        let dims = shape.iter().cloned().map(DimFact::from).collect();
        // The type is set again, because the parser loses it if an input is also an output.
        let fact = InferenceFact::dt_shape(datum_type(port)?, ShapeFactoid::closed(dims));
        model.set_input_fact(index, fact).map_err(failed)?;
    }
    let mut model = model.into_typed().map_err(failed)?;
    optimise(&mut model).map_err(failed)?;
    model.into_runnable().map_err(failed)
}

/// Optimises a model as [`TypedModel::into_optimized`] does, but for one pass: on a channel of extent 1 that is
/// expanded before a product, it undoes its own changes for ever.
fn optimise(model: &mut TypedModel) -> TractResult<()> {
    model.declutter()?;
    let mut optimizer = Optimizer::codegen();
    optimizer.passes.retain(|pass| format!("{pass:?}") != "MergeConsecutiveSameRoleAxes");
    model.optimize_with_session(&mut optimizer.session())
}

fn compute(plan: &Plan, arrays: &[&HostArray], outputs: &[Port]) -> Result<Vec<HostArray>> {
    shielded("running the model in tract", || {
        let tensors = arrays.iter().map(|array| {
            with_array!(array, a => Tensor::from(a.as_standard_layout().into_owned()).into())
        });
        let results = plan.run(tensors.collect()).map_err(failed)?;
        results.iter().zip(outputs).map(|(value, port)| from_tensor(value, port)).collect()
    })
}

fn from_tensor(tensor: &Tensor, port: &Port) -> Result<HostArray> {
    macro_rules! extract {
        ($($datum:ident => $rust:ty),* $(,)?) => {
            match tensor.datum_type() {
                $(DatumType::$datum => {
                    tensor.to_plain_array_view::<$rust>().map(|view| view.to_owned().into())
                })*
                // Sizes that tract computed with; an int64 in the standard's terms.
                DatumType::TDim => tensor.cast_to::<i64>().and_then(|sizes| {
                    Ok(sizes.to_plain_array_view::<i64>()?.to_owned().into())
                }),
                other => return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("output '{}' is {other:?}, which is not handled", port.name),
                ).hint("take this output off the model, or cast it to floats")),
            }
        };
    }
    extract!(
        F32 => f32,
        F64 => f64,
        F16 => half::f16,
        I64 => i64,
        I32 => i32,
        I16 => i16,
        I8 => i8,
        U64 => u64,
        U32 => u32,
        U16 => u16,
        U8 => u8,
        Bool => bool,
        String => String,
    )
    .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;

    #[test]
    fn the_described_version_is_the_one_in_cargo_toml() {
        let manifest = include_str!("../../../Cargo.toml");
        assert!(manifest.contains(&format!("tract-onnx = {{ version = \"{VERSION}\"")));
    }

    #[test]
    fn an_expanded_channel_before_a_product_is_planned() {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "n,1,4,4");
        let sizes = b.ints("sizes", &[1, 3, 4, 4]);
        let x = b.op("Expand", "wide", &[x, sizes], []);
        let w = b.weights("w", &[5, 3, 1, 1]);
        let y = b.op("Conv", "y", &[x, w], []);
        let model = b.build(&[y]);
        let mut session = Tract.load(ModelSource::Graph(&model)).unwrap();
        let x: HostArray = ndarray::ArrayD::<f32>::ones(ndarray::IxDyn(&[2, 1, 4, 4])).into();
        let outputs = session.run(&[("x", &x)]).unwrap();
        assert_eq!(outputs[0].shape(), [2, 5, 4, 4]);
    }

    #[test]
    fn formulas_that_grow_without_bounds_are_numbers() {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "n,4");
        let mut sizes = b.op("Shape", "sizes", &[x], []);
        let two = b.ints("two", &[2, 2]);
        for _ in 0..64 {
            let half = b.op("Div", "half", &[sizes, two], []);
            sizes = b.op("Sub", "less", &[sizes, half], []);
        }
        let y = b.op("Expand", "y", &[x, sizes], []);
        let model = b.build(&[y]);
        let mut session = Tract.load(ModelSource::Graph(&model)).unwrap();
        let x: HostArray = ndarray::ArrayD::<f32>::ones(ndarray::IxDyn(&[2, 4])).into();
        let outputs = session.run(&[("x", &x)]).unwrap();
        assert_eq!(outputs[0].shape(), [2, 4]);
    }

    #[test]
    fn several_sets_of_shapes_have_plans_of_their_own_and_more_have_one() {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "n,3,h,w");
        let w = b.weights("w", &[5, 3, 3, 3]);
        let y = b.op("Conv", "y", &[x, w], []);
        let model = b.build(&[y]);
        let Parsed { inputs, outputs, elements, model, .. } =
            parse(ModelSource::Graph(&model)).unwrap();
        assert_eq!(elements, 5 * 3 * 3 * 3);
        let (concrete, symbolic) = (Recent::new(MOST_OF_SMALL), Symbolic::Untried);
        let mut session = TractSession { inputs, outputs, concrete, symbolic, model };
        for size in 3..10 {
            let x: HostArray =
                ndarray::ArrayD::<f32>::ones(ndarray::IxDyn(&[1, 3, size, 9])).into();
            let outputs = session.run(&[("x", &x)]).unwrap();
            assert_eq!(outputs[0].shape(), [1, 5, size - 2, 7]);
            assert_eq!(session.concrete.made(), (size - 2).min(SEVERAL));
            assert_eq!(matches!(session.symbolic, Symbolic::Planned(_)), size - 2 > SEVERAL);
        }
    }
}
