//! Heads of attention with rotary embeddings.

use super::*;

/// A net of two heads with four depths each, whose queries and keys are rotated.
struct Net {
    graph: Graph,
}

impl Net {
    fn new() -> (Net, ValueId) {
        let mut graph = Graph::new("rotary");
        let dims = [Dim::Symbol("n".into()), Dim::Known(5), Dim::Known(6)];
        let x = graph.add_input("x", TensorType { dtype: DataType::F32, shape: Some(dims.into()) });
        (Net { graph }, x)
    }

    fn ints(&mut self, values: &[i64]) -> ValueId {
        let dims = if values.len() == 1 { vec![1] } else { vec![values.len()] };
        self.graph.add_initializer("ints", Tensor::from_i64(dims, values))
    }

    fn dense(&mut self, name: &str, x: ValueId, dims: [usize; 2]) -> ValueId {
        let w = self.graph.add_initializer(&format!("{name}.w"), zeros(&dims));
        self.graph.add_op("MatMul", name, &[x, w], [])
    }

    fn reshape(&mut self, x: ValueId, sizes: &[i64]) -> ValueId {
        let sizes = self.ints(sizes);
        self.graph.add_op("Reshape", "reshape", &[x, sizes], [])
    }

    fn transpose(&mut self, x: ValueId, perm: &[i64]) -> ValueId {
        let perm = [("perm", Attribute::Ints(perm.to_vec()))];
        self.graph.add_op("Transpose", "transpose", &[x], perm)
    }

    /// A layer whose rows are heads in front of tokens.
    fn heads(&mut self, name: &str, x: ValueId) -> ValueId {
        let x = self.dense(name, x, [6, 8]);
        let x = self.reshape(x, &[0, 0, 2, 4]);
        self.transpose(x, &[0, 2, 1, 3])
    }

    /// Rotates the last axis by tables of the given extents.
    fn rotated(&mut self, x: ValueId, dims: &[usize]) -> ValueId {
        let [cos, sin] = ["cos", "sin"].map(|name| self.graph.add_initializer(name, zeros(dims)));
        let axis = self.ints(&[-1]);
        let [low, high] = [[0, 2], [2, 4]].map(|[from, to]| {
            let (from, to) = (self.ints(&[from]), self.ints(&[to]));
            self.graph.add_op("Slice", "half", &[x, from, to, axis], [])
        });
        let high = self.graph.add_op("Neg", "negative", &[high], []);
        let axis = [("axis", Attribute::Int(-1))];
        let turned = self.graph.add_op("Concat", "turned", &[high, low], axis);
        let (a, b) = (
            self.graph.add_op("Mul", "real", &[x, cos], []),
            self.graph.add_op("Mul", "imaginary", &[turned, sin], []),
        );
        self.graph.add_op("Add", "rotated", &[a, b], [])
    }

    /// Attention, the layer behind it, and another one.
    fn coupling(mut self, q: ValueId, k: ValueId, v: ValueId) -> Coupling {
        let scores = self.graph.add_op("MatMul", "scores", &[q, k], []);
        let axis = [("axis", Attribute::Int(-1))];
        let scores = self.graph.add_op("Softmax", "attention", &[scores], axis);
        let mixed = self.graph.add_op("MatMul", "mixed", &[scores, v], []);
        let mixed = self.transpose(mixed, &[0, 2, 1, 3]);
        let mixed = self.reshape(mixed, &[0, 0, 8]);
        let y = self.dense("proj", mixed, [8, 7]);
        let y = self.dense("last", y, [7, 3]);
        self.graph.outputs.push(y);
        coupled(&mut self.graph)
    }
}

/// Whether the heads of each layer keep the order of their depths.
fn fixed(coupling: &Coupling) -> Vec<(&str, bool)> {
    let named = |nest: &Nest| coupling.group(nest.channels).name.as_str();
    coupling.nests.iter().map(|nest| (named(nest), nest.is_fixed)).collect()
}

fn follows(coupling: &Coupling, name: &str) -> bool {
    let layer = coupling.layers.iter().find(|layer| layer.name == name).unwrap();
    layer.inputs.is_some()
}

#[test]
fn depths_of_values_are_free_where_queries_and_keys_are_rotated() {
    let (mut net, x) = Net::new();
    let [q, k] = ["q", "k"].map(|name| {
        let own = net.heads(name, x);
        net.rotated(own, &[5, 4])
    });
    let k = net.transpose(k, &[0, 1, 3, 2]);
    let v = net.heads("v", x);
    let coupling = net.coupling(q, k, v);
    assert_eq!(fixed(&coupling), [("q", true), ("k", true), ("v", false)]);
    assert!(follows(&coupling, "proj"));
}

#[test]
fn values_have_heads_of_their_own_where_queries_and_keys_are_not_followed() {
    let (mut net, x) = Net::new();
    let both = net.dense("both", x, [6, 16]);
    let both = net.reshape(both, &[0, 0, 2, 2, 4]);
    let both = net.rotated(both, &[5, 1, 1, 4]);
    let [q, k] = [0, 1].map(|at| {
        let at = net.graph.add_initializer("at", Tensor::from_i64(vec![], &[at]));
        let axis = [("axis", Attribute::Int(2))];
        net.graph.add_op("Gather", "part", &[both, at], axis)
    });
    let (q, k) = (net.transpose(q, &[0, 2, 1, 3]), net.transpose(k, &[0, 2, 3, 1]));
    let v = net.heads("v", x);
    let coupling = net.coupling(q, k, v);
    assert!(fixed(&coupling).contains(&("v", false)), "{:?}", fixed(&coupling));
    assert!(follows(&coupling, "proj"));
}

#[test]
fn one_head_of_keys_and_values_leaves_the_heads_of_queries() {
    let (mut net, x) = Net::new();
    let q = net.heads("q", x);
    let q = net.rotated(q, &[5, 4]);
    let k = net.dense("k", x, [6, 4]);
    let k = net.rotated(k, &[5, 4]);
    let v = net.dense("v", x, [6, 4]);
    let axis = net.ints(&[1]);
    let [k, v] = [k, v].map(|x| net.graph.add_op("Unsqueeze", "one", &[x, axis], []));
    let k = net.transpose(k, &[0, 1, 3, 2]);
    let coupling = net.coupling(q, k, v);
    assert_eq!(fixed(&coupling), [("q", true)]);
    assert!(follows(&coupling, "proj"));
}
