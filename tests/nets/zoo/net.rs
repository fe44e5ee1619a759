//! The architectures of the `light_*` models of the Python `onnx` package, with seeded weights.
//!
//! The files hold structure only: every weight is a `ConstantOfShape`. Here weights are drawn by He
//! initialisation, and normalisation gets matching statistics. A divisor reduces widths, so that tests
//! have every node of the architecture but fewer weights.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use onnx_zip::ir::{Attribute, Dim, Graph, Model, NodeId, Tensor, TensorType, ValueId};
use onnx_zip::onnx;

/// An architecture, and the divisor of its widths in tests.
#[derive(Debug, Clone, Copy)]
pub struct Architecture {
    /// The name in `light_<name>.onnx`.
    pub name: &'static str,
    /// Divisor of all widths for tests.
    pub divisor: usize,
}

/// All of them.
pub const ARCHITECTURES: [Architecture; 9] = [
    Architecture { name: "bvlc_alexnet", divisor: 8 },
    Architecture { name: "densenet121", divisor: 4 },
    Architecture { name: "inception_v1", divisor: 8 },
    Architecture { name: "inception_v2", divisor: 8 },
    Architecture { name: "resnet50", divisor: 8 },
    Architecture { name: "shufflenet", divisor: 1 },
    Architecture { name: "squeezenet", divisor: 4 },
    Architecture { name: "vgg19", divisor: 16 },
    Architecture { name: "zfnet512", divisor: 8 },
];

/// Where the Python package keeps the models.
fn folder() -> PathBuf {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/lib");
    let versions = std::fs::read_dir(&lib).unwrap_or_else(|e| panic!("{}: {e}", lib.display()));
    let light = "site-packages/onnx/backend/test/data/light";
    let found = versions.map(|v| v.unwrap().path().join(light)).find(|p| p.exists());
    found.expect("the Python package onnx is missing in .venv: run `make setup`")
}

/// The architecture with widths divided by `divisor` and weights drawn with `seed`.
pub fn net(name: &str, divisor: usize, seed: u64) -> Model {
    let mut model = onnx::load(&folder().join(format!("light_{name}.onnx"))).unwrap();
    let graph = &mut model.graph;
    let order = graph.topological_order().unwrap();
    let mut widths = Widths { divisor, full: HashMap::new(), own: HashMap::new() };
    let mut weights = Weights { rng: ChaCha8Rng::seed_from_u64(seed), energy: HashMap::new() };
    for input in graph.inputs.clone() {
        let channels = graph.value(input).ty.as_ref().unwrap().shape.as_ref().unwrap()[1].clone();
        widths.set(input, channels.known().unwrap(), channels.known().unwrap());
        weights.energy.insert(input, 1.0);
    }
    for id in order {
        if !graph.node(id).is("ConstantOfShape") {
            widths.visit(graph, id);
            weights.visit(graph, id);
        }
    }
    forget_declared_types(graph, &widths);
    graph.remove_dead_nodes();
    model
}

/// The number of channels of each value, in the file and here.
struct Widths {
    divisor: usize,
    full: HashMap<ValueId, usize>,
    own: HashMap<ValueId, usize>,
}

impl Widths {
    fn set(&mut self, value: ValueId, full: usize, own: usize) {
        self.full.insert(value, full);
        self.own.insert(value, own);
    }

    /// Resizes a node's constants to fit its input.
    fn visit(&mut self, graph: &mut Graph, id: NodeId) {
        let node = graph.node(id).clone();
        let data: Vec<ValueId> =
            node.inputs.iter().flatten().copied().filter(|v| self.own.contains_key(v)).collect();
        let (Some(output), Some(first)) = (node.output(0), data.first()) else { return };
        let (mut full, mut own) = (self.full[first], self.own[first]);
        match node.op.as_str() {
            "Conv" | "Gemm" => {
                (full, own) = self.layer(graph, id, full, own);
            }
            "BatchNormalization" => (1..5).for_each(|i| resize(graph, node.inputs[i], &[own])),
            "Mul" | "Add" if data.len() == 1 => {
                let unsqueeze = graph.producer(node.inputs[1].unwrap()).unwrap();
                resize(graph, graph.node(unsqueeze).input(0), &[own]);
            }
            "Concat" => {
                full = data.iter().map(|v| self.full[v]).sum();
                own = data.iter().map(|v| self.own[v]).sum();
            }
            "Sum" | "Add" => assert!(data.iter().all(|v| self.own[v] == own), "{}", node.name),
            "Reshape" => (full, own) = reshape(graph, id, full, own),
            _ => {}
        }
        self.set(output, full, own);
    }

    fn layer(&self, graph: &mut Graph, id: NodeId, full: usize, own: usize) -> (usize, usize) {
        let node = graph.node(id).clone();
        let mut dims = sizes(graph, node.inputs[1]);
        let groups = node.int("group", 1) as usize;
        let outputs = dims[0];
        let depthwise = groups > 1 && groups == full;
        let narrow = outputs.div_ceil(self.divisor).next_multiple_of(groups);
        dims[0] = if depthwise { own } else { narrow };
        dims[1] = if depthwise { 1 } else { own / groups };
        if depthwise {
            graph.edit_node(id, |n| {
                n.attributes.insert("group".to_owned(), Attribute::Int(own as i64));
            });
        }
        resize(graph, node.inputs[1], &dims);
        if node.inputs.len() > 2 {
            resize(graph, node.inputs[2], &dims[..1]);
        }
        (outputs, dims[0])
    }
}

/// The sizes of a constant, which is a `ConstantOfShape` or has replaced one.
fn sizes(graph: &Graph, value: Option<ValueId>) -> Vec<usize> {
    let value = value.unwrap();
    if let Some(tensor) = graph.initializer(value) {
        return tensor.dims.clone();
    }
    let maker = graph.node(graph.producer(value).unwrap());
    let shape = maker.input(usize::from(maker.is("Reshape"))).unwrap();
    let shape = graph.initializer(shape).unwrap().to_i64().unwrap();
    shape.iter().map(|n| *n as usize).collect()
}

/// Replaces a constant by zeros of these sizes.
fn resize(graph: &mut Graph, value: Option<ValueId>, dims: &[usize]) {
    let value = value.unwrap();
    if let Some(maker) = graph.producer(value) {
        graph.remove_node(maker);
    }
    graph.set_initializer(value, Tensor::from_f32(&ArrayD::zeros(IxDyn(dims))));
    graph.set_type(value, None);
}

/// Adapts a target shape, which holds the channels flattened, in two parts, or as one axis.
fn reshape(graph: &mut Graph, id: NodeId, full: usize, own: usize) -> (usize, usize) {
    let target = graph.node(id).input(1).unwrap();
    let mut shape = graph.initializer(target).unwrap().to_i64().unwrap();
    let (mut wide, mut narrow) = (full, own);
    match shape.as_mut_slice() {
        [_, flat] => {
            wide = *flat as usize;
            narrow = wide / full * own;
            *flat = narrow as i64;
        }
        [_, groups, part, _, _] => *part = own as i64 / *groups,
        [_, channels, ..] => *channels = own as i64,
        _ => panic!("an unusual reshape"),
    }
    graph.set_initializer(target, Tensor::from_i64(vec![shape.len()], &shape));
    (wide, narrow)
}

/// Removes declared types, since sizes have changed. Outputs keep theirs with the new number of channels.
fn forget_declared_types(graph: &mut Graph, widths: &Widths) {
    let all: Vec<ValueId> = graph.values().map(|(id, _)| id).collect();
    for id in all {
        if graph.producer(id).is_none() {
            continue;
        }
        let declared = graph.value(id).ty.clone();
        let ty = declared.filter(|_| graph.outputs.contains(&id)).map(|ty| {
            let mut shape = ty.shape.unwrap();
            shape[1] = Dim::Known(widths.own[&id]);
            TensorType { shape: Some(shape), ..ty }
        });
        graph.set_type(id, ty);
    }
}

/// Whether the final softmax reads a value.
fn answers(graph: &Graph, value: ValueId) -> bool {
    graph.nodes().any(|(_, n)| n.is("Softmax") && n.input(0) == Some(value))
}

/// Draws weights, and tracks the mean square of values.
struct Weights {
    rng: ChaCha8Rng,
    energy: HashMap<ValueId, f64>,
}

impl Weights {
    fn visit(&mut self, graph: &mut Graph, id: NodeId) {
        let node = graph.node(id).clone();
        let Some(output) = node.output(0) else { return };
        let inputs: Vec<f64> =
            node.inputs.iter().flatten().filter_map(|v| self.energy.get(v)).copied().collect();
        if inputs.is_empty() {
            return;
        }
        let first = inputs.iter().sum::<f64>() / inputs.len() as f64;
        let energy = match node.op.as_str() {
            "Conv" | "Gemm" => {
                let fan_in: usize = sizes(graph, node.inputs[1])[1..].iter().product();
                // Saturated scores would hide differences.
                let gain = if answers(graph, output) { 0.2 } else { 2.0 };
                self.normal(graph, node.inputs[1], 0.0, (gain / fan_in as f64).sqrt());
                if node.inputs.len() > 2 {
                    self.normal(graph, node.inputs[2], 0.0, 0.05);
                }
                2.0 * first
            }
            "BatchNormalization" => {
                self.uniform(graph, node.inputs[1], 0.5, 1.5);
                self.normal(graph, node.inputs[2], 0.0, 0.1);
                self.normal(graph, node.inputs[3], 0.0, 0.1 * first.sqrt());
                self.uniform(graph, node.inputs[4], 0.7 * first, 1.3 * first);
                1.1
            }
            "Mul" | "Add" if inputs.len() == 1 => {
                let unsqueeze = graph.producer(node.inputs[1].unwrap()).unwrap();
                let constant = graph.node(unsqueeze).input(0);
                match node.is("Mul") {
                    true => self.uniform(graph, constant, 0.5, 1.5),
                    false => self.normal(graph, constant, 0.0, 0.1),
                }
                first
            }
            // A sum is mostly positive, since one operand is rectified.
            "Relu"
                if graph
                    .producer(node.inputs[0].unwrap())
                    .is_some_and(|p| graph.node(p).is("Sum")) =>
            {
                0.9 * first
            }
            "Relu" => first / 2.0,
            "MaxPool" => 3.0 * first,
            "Sum" | "Add" => inputs.iter().sum(),
            "LRN" => {
                // With the file's factor, neighbouring channels would have almost no effect.
                graph.edit_node(id, |n| {
                    n.attributes.insert("alpha".to_owned(), Attribute::Float(0.5));
                });
                first
            }
            _ => first,
        };
        self.energy.insert(output, energy);
    }

    fn normal(&mut self, graph: &mut Graph, value: Option<ValueId>, mean: f64, std: f64) {
        self.draw(graph, value, |rng| {
            let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
            mean + std * radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
        });
    }

    fn uniform(&mut self, graph: &mut Graph, value: Option<ValueId>, low: f64, high: f64) {
        self.draw(graph, value, |rng| rng.random_range(low..high));
    }

    fn draw(
        &mut self,
        graph: &mut Graph,
        value: Option<ValueId>,
        mut law: impl FnMut(&mut ChaCha8Rng) -> f64,
    ) {
        let dims = sizes(graph, value);
        let array = ArrayD::from_shape_simple_fn(IxDyn(&dims), || law(&mut self.rng) as f32);
        graph.set_initializer(value.unwrap(), Tensor::from_f32(&array));
    }
}
