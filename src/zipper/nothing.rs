//! Nets without a layer that could be shared, and merges that share nothing new.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::align::Alignment;
use crate::couple::{Outside, outside};
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::ir::{Graph, Node, Tensor};
use crate::mtz::joint::{JointModel, Task};
use crate::mtz::matching::Share;
use crate::mtz::options::Budget;
use crate::mtz::plan::{Prediction, SitePlan, predict};
use crate::report::{OutsideRecord, at_outputs, count, decidable};

use super::Prepared;
use super::equal::have_equal_weights;

impl Prepared {
    /// Makes sure that the nets have layers or weights in common.
    ///
    /// # Errors
    /// [`ErrorKind::Misaligned`] where they have neither.
    pub(crate) fn check_common(&self, budget: &Budget) -> Result<()> {
        let Prepared { joint, alignment, .. } = self;
        let shares_nothing = |plan: &Prediction| plan.sites.iter().all(|s| s.reason.is_some());
        if !shares_nothing(&predict(joint, alignment, budget, false)?) {
            return Ok(());
        }
        // The options may share nothing although something could be shared.
        let all = Budget::uniform(Share::Fraction(1.0));
        let plan = predict(joint, alignment, &all, false)?;
        if !shares_nothing(&plan) || have_equal_weights(joint) {
            return Ok(());
        }
        let mut free = alignment.clone();
        free.sites.iter_mut().for_each(|site| site.own_weights = false);
        if shares_nothing(&predict(joint, &free, &all, false)?) {
            return Err(misaligned(joint, alignment, &plan));
        }
        let mut layers = plan.sites.iter().filter_map(|site| site.layers.first());
        match layers.all(|name| budget.shares_nothing_of(name)) {
            true => Ok(()),
            false => Err(kept(joint)),
        }
    }

    /// Whether a merge with this budget pairs no neurons and gives no layers common weights, but for
    /// duplicates.
    ///
    /// # Errors
    /// As [`predict`].
    pub(super) fn shares_nothing(&self, budget: &Budget) -> Result<bool> {
        let Prepared { joint, alignment, .. } = self;
        if !budget.shares_nothing(joint.tasks().iter().flat_map(|task| &task.coupling().layers)) {
            return Ok(false);
        }
        let plan = predict(joint, alignment, budget, false)?;
        let mut sites = alignment.common().zip(&plan.sites);
        let is_idle = |plan: &SitePlan| plan.reason.is_some() || plan.shared == 0;
        Ok(sites.all(|(site, plan)| alignment.is_duplicate(site) || is_idle(plan)))
    }

    /// Whether a merge with this budget gives common weights to layers that differ.
    ///
    /// # Errors
    /// As [`predict`].
    pub(crate) fn fuses(&self, budget: &Budget) -> Result<bool> {
        let Prepared { joint, alignment, .. } = self;
        let mut nothing = Budget::uniform(Share::Fraction(0.0));
        nothing.set_biases(budget.biases());
        let after = predict(joint, alignment, budget, false)?;
        // What tasks of a joint model share already is saved without any budget.
        let before = predict(joint, alignment, &nothing, false)?;
        let sites = alignment.sites.iter().filter(|site| site.is_common());
        let mut sites = sites.zip(after.sites.iter().zip(&before.sites));
        Ok(sites.any(|(site, (after, before))| {
            !alignment.is_duplicate(site) && after.reason.is_none() && after.saved > before.saved
        }))
    }
}

/// The error that all layers that nets have in common keep their weights, with what asks for it.
fn kept(joint: &JointModel) -> Error {
    let names: Vec<&str> = joint.tasks().iter().map(|t| t.name()).collect();
    let names = names.join(" and ");
    let side_by_side = Hint::from(", or put the models side by side with ").option_as("share", "0");
    let (what, hint) = match joint.has_sums() {
        true => (
            format!(
                "{names} can share no further layer: weights of a given joint model are common parts \
                 and differences in few bits, which no other task can have in common with it"
            ),
            Hint::from("merge the original models again"),
        ),
        false => (
            format!("every layer that {names} have in common keeps its own weights"),
            Hint::from("name fewer layers in ").option("own-weights").then(
                ", or merge the originals of a joint model whose layers have their own weights",
            ),
        ),
    };
    Error::new(ErrorKind::Misaligned, what).hint(hint.and(side_by_side))
}

/// The error that nets have no layers in common, with the reason.
pub(super) fn misaligned(joint: &JointModel, alignment: &Alignment, plan: &Prediction) -> Error {
    if let Some(error) = joint.tasks().iter().find_map(without_layers) {
        return error;
    }
    let names: Vec<&str> = joint.tasks().iter().map(|t| t.name()).collect();
    let names = names.join(" and ");
    let first = plan.sites.first().and_then(|s| Some((s.layers.first()?, s.reason.as_ref()?)));
    let what = match (alignment.divergences.iter().flatten().next(), first) {
        (Some(d), _) => format!(
            "{names} have no layers in common that could be shared: they first differ at '{}' against '{}' ({})",
            d.a.as_deref().unwrap_or("the end"),
            d.b.as_deref().unwrap_or("the end"),
            d.difference
        ),
        (None, Some((layer, reason))) => match in_sub_graphs(joint, plan) {
            Some(found) => format!("{names} have no layers that could be shared: {found}"),
            None => format!(
                "{names} have no layers that could be shared, from the first one on ('{layer}': {reason})"
            ),
        },
        (None, None) => match joint.tasks().iter().find_map(largest_outside) {
            Some(found) => format!(
                "{names} have no layers whose channels can be followed: '{}' is {}",
                found.name, found.reason
            ),
            None => format!("{names} have no layers with weights"),
        },
    };
    Error::new(ErrorKind::Misaligned, what).hint(next_step(joint, plan))
}

/// What makes layers shareable, or shows why they are not.
fn next_step(joint: &JointModel, plan: &Prediction) -> Hint {
    if let Some(hint) = at_outputs(plan.sites.iter().map(|site| site.reason.as_ref())) {
        return hint;
    }
    let outside = |task: &Task| OutsideRecord::by_reason(outside(task.graph(), task.coupling()));
    let next = joint.tasks().iter().find_map(|task| decidable(&outside(task)));
    next.unwrap_or_else(|| "`onnx-zip plan` shows the whole alignment".to_owned()).into()
}

/// The largest constant of a net that belongs to no layer.
fn largest_outside(task: &Task) -> Option<Outside> {
    outside(task.graph(), task.coupling()).into_iter().max_by_key(|found| found.elements)
}

/// Where most parameters of a net are, if that is inside the sub-graphs of one operator.
fn in_sub_graphs(joint: &JointModel, plan: &Prediction) -> Option<String> {
    joint.tasks().iter().zip(&plan.sizes.originals).find_map(|(task, in_layers)| {
        let (mut all, mut inside) = (*in_layers, BTreeMap::<String, u64>::new());
        for found in outside(task.graph(), task.coupling()) {
            all = all.saturating_add(found.elements);
            if let Some(op) = found.sub_graphs_of {
                let parameters = inside.entry(op).or_default();
                *parameters = parameters.saturating_add(found.elements);
            }
        }
        let (op, parameters) = inside.into_iter().max_by_key(|(_, parameters)| *parameters)?;
        (parameters > all / 2).then(|| {
            format!(
                "{} of {} parameters of {} are constants of a {op}, inside of which no layers are followed",
                count(parameters),
                count(all),
                task.name()
            )
        })
    })
}

/// The error for a net most of whose weights belong to a runtime's own operators, if it is one.
fn without_layers(task: &Task) -> Option<Error> {
    let graph = task.graph();
    let layers = task.coupling().layers.iter().filter_map(|l| graph.initializer(l.layer.weight));
    let in_layers: usize = layers.map(Tensor::len).sum();
    let fused: Vec<(&Node, usize)> =
        graph.nodes().map(|(_, node)| (node, fused_weights(graph, node))).collect();
    if fused.iter().map(|(_, weights)| weights).sum::<usize>() <= in_layers {
        return None;
    }
    let (node, _) = fused.into_iter().min_by_key(|(_, weights)| Reverse(*weights))?;
    let message = format!(
        "the weights are those of {}, which runtimes put in the place of layers that could be shared",
        node.op
    );
    let error = Error::new(ErrorKind::Misaligned, message).at_node(&node.name);
    Some(
        error
            .in_model(task.name())
            .hint("merge the model as it was before it was optimised or quantised for a runtime"),
    )
}

/// Number of elements of the constant matrices of a fused or quantised operator.
fn fused_weights(graph: &Graph, node: &Node) -> usize {
    let is_fused =
        !node.domain.is_empty() || node.op.contains("Integer") || node.op.starts_with("QLinear");
    let constants = node.inputs.iter().flatten().filter_map(|value| graph.initializer(*value));
    let matrices = constants.filter(|tensor| is_fused && tensor.dims.len() > 1);
    matrices.map(Tensor::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::align::TaskId;
    use crate::couple::LayerId;
    use crate::ir::builder::GraphBuilder;
    use crate::ir::{Attribute, DataType, Tensor, TensorType, ValueKind};
    use crate::mtz::joint::Based;
    use crate::zipper::prepare::{fixture, fixtures, prepare_parts};
    use crate::zipper::{Input, Part, PrepareOptions};

    const NETS: [&str; 2] = ["lenet300_mnist_a", "lenet300_fashion"];

    fn checked(prepared: &Prepared, share: f64) -> Result<()> {
        prepared.check_common(&Budget::uniform(Share::Fraction(share)))
    }

    #[test]
    fn the_option_that_keeps_all_weights_is_named() {
        let parts = NETS.map(|name| Part::Net(Box::new(fixture(name))));
        let own_weights = vec!["*".to_owned()];
        let options = PrepareOptions { own_weights, ..PrepareOptions::default() };
        let prepared = prepare_parts(parts.into(), options).unwrap();
        let error = checked(&prepared, 1.0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misaligned);
        assert!(error.to_string().contains("in common keeps its own weights"), "{error}");
        assert!(checked(&prepared, 0.0).is_ok());
    }

    #[test]
    fn sums_of_a_joint_model_stay_and_share_nothing_further() {
        let mut joint = fixtures(&NETS).joint;
        let hidden = [0, 1].map(|task| [0, 1].map(|id| TaskId(task).layer(LayerId(id)))).concat();
        for (number, own) in (0..).zip(&hidden) {
            let weight = joint.layer(*own).layer.weight;
            let base = joint.task(own.task).graph().initializer(weight).unwrap().clone();
            assert!(joint.set_based(*own, Based { number, base, difference: None }));
        }
        let parts = vec![Part::Joint(joint), Part::Net(Box::new(fixture("lenet300_mnist_b")))];
        let prepared = prepare_parts(parts, PrepareOptions::default()).unwrap();
        for (number, own) in (0..).zip(&hidden) {
            assert_eq!(prepared.joint.based_layer(*own).unwrap().number, number);
        }
        let error = checked(&prepared, 1.0).unwrap_err();
        assert!(error.to_string().contains("differences in few bits"), "{error}");
        assert!(checked(&prepared, 0.0).is_ok());
    }

    /// A net that repeats a product with a matrix, and its scores.
    fn repeating(name: &str, seed: usize) -> Input {
        let mut b = GraphBuilder::new(name, 17);
        b.weights("unused", &[seed]);
        let (x, w) = (b.input("x", "n,8"), b.weights("w", &[8, 8]));
        let mut body = Graph::new("body");
        let scalar = |dtype| TensorType { dtype, shape: Some(Vec::new()) };
        body.add_input("count", scalar(DataType::I64));
        let goes_on = body.add_input("goes_on", scalar(DataType::Bool));
        let state = body.add_input("state", TensorType { dtype: DataType::F32, shape: None });
        let w = body.add_value("w", ValueKind::Captured(w), None);
        let still = body.add_op("Identity", "still", &[goes_on], []);
        let product = body.add_op("MatMul", "product", &[state, w], []);
        body.outputs = vec![still, body.add_op("Tanh", "next", &[product], [])];
        let steps = b.constant("steps", Tensor::from_i64(Vec::new(), &[3]));
        let last = b.graph().add_value("last", ValueKind::Detached, None);
        b.graph().add_node(Node {
            name: "loop".to_owned(),
            op: "Loop".to_owned(),
            inputs: vec![Some(steps), None, Some(x)],
            outputs: vec![Some(last)],
            attributes: [("body".to_owned(), Attribute::Graph(Box::new(body)))].into(),
            ..Node::default()
        });
        let (w, bias) = (b.weights("head.w", &[3, 8]), b.weights("head.b", &[3]));
        let y = b.op("Gemm", "head", &[last, w, bias], [("transB", 1.into())]);
        Input { name: name.to_owned(), model: b.build(&[y]) }
    }

    #[test]
    fn weights_inside_of_a_loop_are_named_as_the_cause() {
        let nets = [("a", 1), ("b", 2)].map(|(name, seed)| repeating(name, seed));
        let parts = nets.map(|net| Part::Net(Box::new(net)));
        let prepared = prepare_parts(parts.into(), PrepareOptions::default()).unwrap();
        let error = checked(&prepared, 1.0).unwrap_err().to_string();
        let wanted = "64 of 91 parameters of a are constants of a Loop, inside of which no layers";
        assert!(error.contains(wanted), "{error}");
    }

    /// An encoder without a head: all channels of its layers reach the output.
    fn encoding(name: &str, seed: usize) -> Input {
        let mut b = GraphBuilder::new(name, 17);
        b.weights("unused", &[seed]);
        let (x, embed) = (b.input("x", "n,8"), b.weights("embed.w", &[8, 6]));
        let x = b.op("MatMul", "embed", &[x, embed], []);
        let (up, down) = (b.weights("up.w", &[6, 12]), b.weights("down.w", &[12, 6]));
        let y = b.op("MatMul", "up", &[x, up], []);
        let y = b.op("Relu", "relu", &[y], []);
        let y = b.op("MatMul", "down", &[y, down], []);
        let y = b.op("Add", "sum", &[x, y], []);
        Input { name: name.to_owned(), model: b.build(&[y]) }
    }

    #[test]
    fn encoders_without_heads_are_told_to_share_their_outputs() {
        let nets = [("a", 1), ("b", 2)].map(|(name, seed)| encoding(name, seed));
        let parts = nets.map(|net| Part::Net(Box::new(net)));
        let prepared = prepare_parts(parts.into(), PrepareOptions::default()).unwrap();
        let error = checked(&prepared, 1.0).unwrap_err();
        let wanted = "3 layers read or make channels that are model outputs, too, and are not shared; \
                      --share-outputs shares them";
        assert!(error.with_flags().to_string().contains(wanted), "{}", error.with_flags());
    }

    #[test]
    fn an_operator_of_a_runtime_is_named_if_it_holds_more_weights_than_the_layers() {
        for (fused, is_named) in [(16, true), (2, false)] {
            let parts = ["a", "b"].map(|name| {
                let mut b = GraphBuilder::new(name, 17);
                let x = b.input("x", "n,4");
                let (w, v) = (b.weights("w", &[4, 5]), b.weights("v", &[5, fused]));
                let y = b.op("MatMul", "layer", &[x, w], []);
                let y = b.op("DynamicQuantizeMatMul", "fused", &[y, v], []);
                let id = b.graph().producer(y).unwrap();
                b.graph().edit_node(id, |node| node.domain = "com.microsoft".to_owned());
                let y = b.op("Relu", "y", &[y], []);
                let model = b.build(&[y]);
                Part::Net(Box::new(Input { name: name.to_owned(), model }))
            });
            let prepared = prepare_parts(parts.into(), PrepareOptions::default()).unwrap();
            let named = prepared.joint.tasks().iter().find_map(without_layers);
            let says = |error: Error| error.to_string().contains("those of DynamicQuantizeMatMul");
            assert_eq!(named.is_some_and(says), is_named);
        }
    }

    #[test]
    fn only_a_budget_for_layers_that_differ_fuses() {
        let prepared = fixtures(&["lenet300_mnist_a", "lenet300_fashion"]);
        let fuses = |part| prepared.fuses(&Budget::uniform(Share::Fraction(part))).unwrap();
        assert!(fuses(1.0) && fuses(0.1) && !fuses(0.0));
    }
    #[test]
    fn a_budget_of_nothing_leaves_no_choice_but_that_of_one_layer_does() {
        let shares_nothing = |names: [&str; 2], budget: &Budget| {
            let mut nets = names.map(fixture);
            nets.iter_mut().zip(["a", "b"]).for_each(|(net, name)| net.name = name.to_owned());
            let parts = nets.map(|net| Part::Net(Box::new(net)));
            let prepared = prepare_parts(parts.into(), PrepareOptions::default()).unwrap();
            prepared.shares_nothing(budget).unwrap()
        };
        let mut budget = Budget::uniform(Share::Fraction(0.0));
        assert!(shares_nothing(NETS, &budget));
        assert!(shares_nothing([NETS[0]; 2], &budget));
        assert!(!shares_nothing(NETS, &Budget::uniform(Share::Fraction(0.1))));
        budget.rule("*", Share::Fraction(0.5)).unwrap();
        assert!(!shares_nothing(NETS, &budget));
    }
}
