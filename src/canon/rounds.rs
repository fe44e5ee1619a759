//! Limits of the rounds of loops.
//!
//! A loop whose count is a constant, and whose condition never changes, runs as often as its file says. Nothing
//! else would end it. Loops over the positions of a sequence, and loops whose body decides when to stop, are not
//! limited.

use crate::error::{Error, ErrorKind, Result};
use crate::ir::{Attribute, Graph, Node, Tensor, ValueId, ValueKind};

/// Limit of rounds of all such loops of a model.
const MOST_ROUNDS: u64 = 1 << 20;

/// Checks the rounds of all loops.
///
/// # Errors
/// [`ErrorKind::Format`] naming a loop that runs too often.
pub(super) fn check(graph: &Graph) -> Result<()> {
    spend(&[graph], 1, &mut 0)
}

/// Adds the rounds of the loops of the innermost of these graphs, which runs `times`.
fn spend(graphs: &[&Graph], times: u64, rounds: &mut u64) -> Result<()> {
    let Some(graph) = graphs.last() else { return Ok(()) };
    for (_, node) in graph.nodes() {
        let own = if node.is("Loop") { fixed_rounds(graphs, node) } else { Some(1) };
        let all = times.saturating_mul(own.unwrap_or(1));
        if node.is("Loop") && own.is_some() {
            *rounds = rounds.saturating_add(all);
        }
        if *rounds > MOST_ROUNDS {
            let count = match own {
                Some(u64::MAX) => "for ever".to_owned(),
                _ => format!("{all} times"),
            };
            let message = format!(
                "Loop runs its body {count}, and nothing in it ends it: all such loops may run {MOST_ROUNDS} times"
            );
            return Err(Error::new(ErrorKind::Format, message)
                .at_node(&node.name)
                .hint("the model is damaged; export it again"));
        }
        for body in node.subgraphs() {
            spend(&[graphs, &[body]].concat(), all, rounds)?;
        }
    }
    Ok(())
}

/// How often a loop runs if its body cannot end it: [`u64::MAX`] without a count. `None` if data decide.
fn fixed_rounds(graphs: &[&Graph], node: &Node) -> Option<u64> {
    let count = match node.input(0) {
        Some(value) => u64::try_from(number(graphs, value)?).unwrap_or(0),
        None => u64::MAX,
    };
    let begins = match node.input(1) {
        Some(value) => number(graphs, value)? != 0,
        None => true,
    };
    let body = node.subgraphs().next()?;
    let inner = [graphs, &[body]].concat();
    let condition = origin(body, *body.outputs.first()?);
    let goes_on = body.inputs.get(1) == Some(&condition)
        || number(&inner, condition).is_some_and(|holds| holds != 0);
    match (begins, goes_on) {
        (false, _) => Some(0),
        (true, true) => Some(count),
        (true, false) => None,
    }
}

/// The value that a value is, behind nodes that return it as it is.
fn origin(graph: &Graph, mut value: ValueId) -> ValueId {
    // A damaged graph may have a circle.
    for _ in 0..graph.value_count() {
        let node = graph.producer(value).map(|id| graph.node(id));
        match node.filter(|node| node.is("Identity")).and_then(|node| node.input(0)) {
            Some(before) => value = before,
            None => break,
        }
    }
    value
}

/// The single number or truth value of a constant of the innermost of these graphs.
fn number(graphs: &[&Graph], value: ValueId) -> Option<i64> {
    let (graph, outer) = graphs.split_last()?;
    let value = origin(graph, value);
    match &graph.value(value).kind {
        ValueKind::Initializer(tensor) => single(tensor),
        ValueKind::Captured(captured) => number(outer, *captured),
        ValueKind::Computed(id) => {
            let node = Some(graph.node(*id)).filter(|node| node.is("Constant"))?;
            match (node.attributes.get("value"), node.attributes.get("value_int")) {
                (Some(Attribute::Tensor(tensor)), _) => single(tensor),
                (_, Some(Attribute::Int(number))) => Some(*number),
                _ => None,
            }
        }
        _ => None,
    }
}

fn single(tensor: &Tensor) -> Option<i64> {
    match (tensor.len(), tensor.data.as_ref()) {
        (1, [byte]) => Some(i64::from(*byte)),
        (1, _) => tensor.to_i64()?.first().copied(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canon::check_sizes;
    use crate::ir::DataType;
    use crate::ir::builder::GraphBuilder;

    fn truth(holds: bool) -> Tensor {
        Tensor { dtype: DataType::Bool, dims: Vec::new(), data: vec![u8::from(holds)].into() }
    }

    /// A loop of so many rounds over a value. Its body returns the condition that `condition` makes.
    fn looped(
        count: i64,
        begins: bool,
        condition: impl Fn(&mut GraphBuilder, [ValueId; 3]) -> ValueId,
    ) -> crate::ir::Model {
        let mut body = GraphBuilder::new("body", 17);
        let step = body.typed_input("step", DataType::I64, "");
        let on = body.typed_input("on", DataType::Bool, "");
        let state = body.input("state", "n,4");
        let goes_on = condition(&mut body, [step, on, state]);
        let next = body.op("Relu", "next", &[state], []);
        let body = body.build(&[goes_on, next]).graph;
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "n,4");
        let count = b.constant("count", Tensor::from_i64(Vec::new(), &[count]));
        let begins = b.constant("begins", truth(begins));
        let body = Attribute::Graph(Box::new(body));
        let y = b.op("Loop", "y", &[count, begins, x], [("body", body)]);
        b.build(&[y])
    }

    fn same(body: &mut GraphBuilder, [_, on, _]: [ValueId; 3]) -> ValueId {
        body.op("Identity", "same", &[on], [])
    }

    fn always(body: &mut GraphBuilder, _: [ValueId; 3]) -> ValueId {
        body.constant("always", truth(true))
    }

    fn decided(body: &mut GraphBuilder, [step, ..]: [ValueId; 3]) -> ValueId {
        let most = body.constant("most", Tensor::from_i64(Vec::new(), &[3]));
        body.op("Less", "decided", &[step, most], [])
    }

    #[test]
    fn loops_that_nothing_ends_are_refused() {
        for model in [looped(i64::MAX, true, same), looped(20_000_000, true, always)] {
            let error = check_sizes(&model).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Format);
            assert!(error.to_string().contains("node 'y': Loop runs its body"), "{error}");
        }
    }

    #[test]
    fn loops_that_end_are_not() {
        let models = [
            looped(1000, true, same),
            looped(-1, true, same),
            looped(i64::MAX, false, same),
            looped(i64::MAX, true, decided),
        ];
        for model in models {
            assert!(check_sizes(&model).is_ok());
        }
    }
}
