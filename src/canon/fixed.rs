//! Sets inputs of a model to constants, and takes the branches that follow from them.
//!
//! An input may decide what a model computes, such as a sampling rate or whether there is a cache. No channels are
//! followed inside the branches between which it decides, so their layers cannot be shared. With a value for the
//! input one branch is left.

use std::collections::BTreeSet;

use ndarray::{ArrayD, IxDyn};

use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::{DataType, Dim, Graph, Model, Tensor, TensorType, ValueId};
use crate::naming::shown;

use super::Run::{Fold, Rewrite};
use super::{
    CanonOptions, Pass, branches, constants, fold, limits, repeat, settle, shapes, upgrade,
};

/// Most elements of an input that is set.
const MOST_ELEMENTS: usize = 1 << 16;

/// What follows from a constant input. Weights stay as they are.
const DECIDED: &[Pass] = &[
    Pass { name: "fold", run: Fold(fold::run) },
    Pass { name: "shapes", run: Rewrite(shapes::run) },
    Pass { name: "branches", run: Rewrite(branches::run) },
];

/// A model with inputs set to constants. Each has its name and its value as text: one number for all elements, or
/// one per element with commas between. Inputs that only the other branches read go, too.
///
/// # Errors
/// [`ErrorKind::Usage`] for an input that there is not, and for a value that it cannot have; else as
/// [`super::canonicalise`].
pub fn fix_inputs(mut model: Model, inputs: &[(String, String)]) -> Result<Model> {
    let mut set_all = || {
        let before = read_inputs(&model.graph);
        inputs.iter().try_for_each(|(input, value)| set(&mut model.graph, input, value))?;
        decide(&mut model)?;
        let after = read_inputs(&model.graph);
        model.graph.inputs.retain(|input| after.contains(input) || !before.contains(input));
        Ok(())
    };
    match set_all() {
        Ok(()) => Ok(model),
        Err(error) => Err::<Model, Error>(error).in_model(&model.name),
    }
}

/// A part of a canonical model, with the branches that follow from the shapes of its inputs. Runtimes that are told
/// shapes refuse a branch for others, even if it is never taken. A part in which something is amiss stays as it is.
pub fn with_branches_taken(model: Model) -> Model {
    if !model.graph.nodes().any(|(_, node)| node.is("If")) {
        return model;
    }
    let mut taken = model.clone();
    match settle(&mut taken).and_then(|()| follow(&mut taken)) {
        Ok(()) => taken,
        Err(_) => model,
    }
}

/// The inputs that are read or returned.
fn read_inputs(graph: &Graph) -> BTreeSet<ValueId> {
    let readers = graph.consumers();
    let is_read =
        |input: &ValueId| !readers[input.index()].is_empty() || graph.outputs.contains(input);
    graph.inputs.iter().copied().filter(is_read).collect()
}

fn decide(model: &mut Model) -> Result<()> {
    constants::to_initializers(&mut model.graph);
    limits::check(&model.graph)?;
    upgrade::run(model, None)?;
    settle(model)?;
    follow(model)
}

/// Computes sizes and conditions, and takes branches, until nothing follows any more.
fn follow(model: &mut Model) -> Result<()> {
    repeat(&[DECIDED], model, &CanonOptions::default(), &mut fold::Budget::of_sizes())
}

/// Turns the input `name` into a constant.
fn set(graph: &mut Graph, name: &str, value: &str) -> Result<()> {
    let Some(id) = graph.inputs.iter().copied().find(|id| graph.value(*id).name == name) else {
        let names: Vec<_> = graph.inputs.iter().map(|id| shown(&graph.value(*id).name)).collect();
        let message = format!("there is no input '{}'", shown(name));
        return Err(Error::new(ErrorKind::Usage, message)
            .hint(format!("the inputs are {}", names.join(", "))));
    };
    let tensor = tensor(graph.value(id).ty.as_ref(), value).map_err(|(fault, hint)| {
        let message = format!("the input '{}' {fault}", shown(name));
        Error::new(ErrorKind::Usage, message).hint(hint)
    })?;
    graph.inputs.retain(|input| *input != id);
    graph.set_initializer(id, tensor);
    Ok(())
}

/// The constant of this type with the numbers in `text`; a fault and the next step where there is none.
fn tensor(ty: Option<&TensorType>, text: &str) -> Result<Tensor, (String, String)> {
    let fault = |what: &str, hint: &str| (what.to_owned(), hint.to_owned());
    let open = || fault("has open extents, so it cannot be set", "set inputs of fixed extents");
    let TensorType { dtype, shape } =
        ty.ok_or_else(|| fault("is no tensor, so it cannot be set", "set another input"))?;
    let dims: Option<Vec<usize>> =
        shape.as_ref().and_then(|dims| dims.iter().map(Dim::known).collect());
    let dims = dims.ok_or_else(open)?;
    let elements = dims.iter().try_fold(1usize, |all, extent| all.checked_mul(*extent));
    let elements = elements
        .filter(|all| *all <= MOST_ELEMENTS)
        .ok_or_else(|| fault("has too many elements to be set", "set inputs of few elements"))?;
    let mut words: Vec<&str> = text.split(',').map(str::trim).collect();
    if words.len() == 1 {
        words = vec![text.trim(); elements];
    }
    if words.len() != elements {
        let what = format!("has {elements} elements, and {} are given", words.len());
        return Err((what, "give one number for all elements, or one per element".to_owned()));
    }
    written(*dtype, &dims, &words).ok_or_else(|| {
        let what = format!("of type {dtype:?} cannot be '{}'", shown(text));
        (what, "give a number of its type, or true or false".to_owned())
    })
}

/// A tensor with an element per word.
fn written(dtype: DataType, dims: &[usize], words: &[&str]) -> Option<Tensor> {
    if dtype.is_float() {
        let numbers: Option<Vec<f64>> = words.iter().map(|word| word.parse().ok()).collect();
        let array = ArrayD::from_shape_vec(IxDyn(dims), numbers?).ok()?;
        let tensor = Tensor::from_f64(dtype, &array).ok()?;
        let fits = |(wanted, stored): (&f64, &f64)| wanted.is_finite() == stored.is_finite();
        return array.iter().zip(&tensor.to_f64().ok()?).all(fits).then_some(tensor);
    }
    let number = |word: &&str| match (dtype, *word) {
        (DataType::Bool, "true" | "1") => Some(1),
        (DataType::Bool, "false" | "0") => Some(0),
        (DataType::Bool, _) => None,
        (_, word) => word.parse().ok(),
    };
    let numbers: Option<Vec<i64>> = words.iter().map(number).collect();
    Tensor::from_ints(dtype, &ArrayD::from_shape_vec(IxDyn(dims), numbers?).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;
    use crate::ir::{Attribute, ValueKind};

    /// A net with a layer of its own for each of two rates, as detectors of voices have.
    fn two_rates() -> Model {
        let mut b = GraphBuilder::new("net", 17);
        let (x, rate) = (b.input("x", "n,8"), b.typed_input("rate", DataType::I64, "1"));
        b.input("unread", "n");
        let bias = b.input("bias", "n,8");
        let wanted = b.ints("wanted", &[16_000]);
        let is_high = b.op("Equal", "is_high", &[rate, wanted], []);
        let branches = ["then_branch", "else_branch"].map(|name| {
            let w = b.weights(&format!("{name}.w"), &[8, 8]);
            let mut branch = Graph::new(name);
            let [x, w] = [("x", x), ("w", w)]
                .map(|(name, outer)| branch.add_value(name, ValueKind::Captured(outer), None));
            let y = branch.add_op("MatMul", &format!("{name}.fc"), &[x, w], []);
            let bias = branch.add_value("bias", ValueKind::Captured(bias), None);
            branch.outputs = vec![match name {
                "then_branch" => branch.add_op("Add", "add", &[y, bias], []),
                _ => y,
            }];
            (name, Attribute::Graph(Box::new(branch)))
        });
        let y = b.op("If", "y", &[is_high], branches);
        b.build(&[y])
    }

    fn fixed(input: &str, value: &str) -> Result<Model> {
        fix_inputs(two_rates(), &[(input.to_owned(), value.to_owned())])
    }

    #[test]
    fn a_value_decides_which_branch_is_left() {
        for (value, weight) in [("16000", "then_branch.w"), ("8000", "else_branch.w")] {
            let graph = fixed("rate", value).unwrap().graph;
            let nodes: Vec<&str> = graph.nodes().map(|(_, node)| node.op.as_str()).collect();
            let inputs: Vec<&str> =
                graph.inputs.iter().map(|input| graph.value(*input).name.as_str()).collect();
            match value {
                "16000" => assert_eq!(
                    (nodes, inputs),
                    (vec!["MatMul", "Add"], vec!["x", "unread", "bias"])
                ),
                _ => assert_eq!((nodes, inputs), (vec!["MatMul"], vec!["x", "unread"])),
            }
            assert_eq!(graph.value(graph.outputs[0]).name, "y");
            let constants = graph.values().filter(|(id, _)| graph.initializer(*id).is_some());
            let names: Vec<&str> = constants.map(|(_, value)| value.name.as_str()).collect();
            assert_eq!(names, [weight]);
        }
    }

    /// As where the frames of a sound are counted at run time, and a step of calibration begins behind them.
    #[test]
    fn the_shapes_of_a_part_decide_about_its_branches() {
        for (extent, op) in [("1", "Neg"), ("3", "Relu"), ("frames", "If")] {
            let mut b = GraphBuilder::new("part", 17);
            let x = b.input("x", &format!("samples,4,{extent}"));
            let (last, one) = (b.ints("last", &[-1]), b.ints("one", &[1]));
            let shape = b.op("Shape", "shape", &[x], []);
            let own = b.op("Gather", "extent", &[shape, last], []);
            let is_one = b.op("Equal", "is_one", &[own, one], []);
            let branches = [("then_branch", "Neg"), ("else_branch", "Relu")].map(|(name, op)| {
                let mut branch = Graph::new(name);
                let x = branch.add_value("x", ValueKind::Captured(x), None);
                branch.outputs = vec![branch.add_op(op, op, &[x], [])];
                (name, Attribute::Graph(Box::new(branch)))
            });
            let y = b.op("If", "y", &[is_one], branches);
            let taken = with_branches_taken(b.build(&[y]));
            assert_eq!(taken.graph.outputs, [y]);
            let producer = taken.graph.producer(y).unwrap();
            assert_eq!(taken.graph.node(producer).op, op);
            assert_eq!(taken.graph.inputs, [x]);
        }
    }

    #[test]
    fn inputs_and_values_that_do_not_exist_are_refused() {
        let cases = [
            ("sr", "16000", "there is no input 'sr'"),
            ("x", "0", "has open extents"),
            ("rate", "high", "of type I64 cannot be 'high'"),
            ("rate", "1,2", "has 1 elements, and 2 are given"),
        ];
        for (input, value, wanted) in cases {
            let error = fixed(input, value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(error.to_string().contains(wanted), "{error}");
        }
    }

    #[test]
    fn values_have_the_type_of_their_input() {
        let of = |dtype, dims: &[usize], text| {
            let shape = Some(dims.iter().map(|extent| Dim::Known(*extent)).collect());
            tensor(Some(&TensorType { dtype, shape }), text)
        };
        let flags = of(DataType::Bool, &[2], "true,0").unwrap();
        assert_eq!((flags.dims.clone(), flags.to_i64()), (vec![2], Some(vec![1, 0])));
        let halves = of(DataType::F32, &[2, 1], "0.5").unwrap();
        assert_eq!(halves.to_f64().unwrap().into_raw_vec_and_offset().0, [0.5, 0.5]);
        assert!(of(DataType::I32, &[], "0.5").is_err());
        assert!(of(DataType::U8, &[1], "300").is_err());
        assert!(of(DataType::Bool, &[], "2").is_err());
        assert!(of(DataType::F32, &[1 << 20, 1 << 50], "0").is_err());
    }
}
