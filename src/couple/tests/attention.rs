//! Heads of attention whose queries and keys are rotated or normalised.

use super::*;

/// A net of two heads with four depths each.
pub(super) struct Net {
    pub(super) graph: Graph,
}

impl Net {
    pub(super) fn new() -> (Net, ValueId) {
        let mut graph = Graph::new("rotary");
        let dims = [Dim::Symbol("n".into()), Dim::Known(5), Dim::Known(6)];
        let x = graph.add_input("x", TensorType { dtype: DataType::F32, shape: Some(dims.into()) });
        (Net { graph }, x)
    }

    fn ints(&mut self, values: &[i64]) -> ValueId {
        self.graph.add_initializer("ints", Tensor::from_i64(vec![values.len()], values))
    }

    /// A constant of different numbers.
    fn table(&mut self, dims: &[usize]) -> ValueId {
        let count = dims.iter().product::<usize>();
        let numbers = (0..count).map(|number| number as f32).collect();
        let table = ndarray::ArrayD::from_shape_vec(ndarray::IxDyn(dims), numbers).unwrap();
        self.graph.add_initializer("table", Tensor::from_f32(&table))
    }

    fn dense(&mut self, name: &str, x: ValueId, dims: [usize; 2]) -> ValueId {
        let w = self.graph.add_initializer(&format!("{name}.w"), zeros(&dims));
        self.graph.add_op("MatMul", name, &[x, w], [])
    }

    fn reshape(&mut self, x: ValueId, sizes: &[i64]) -> ValueId {
        let sizes = self.ints(sizes);
        self.graph.add_op("Reshape", "reshape", &[x, sizes], [])
    }

    pub(super) fn transpose(&mut self, x: ValueId, perm: &[i64]) -> ValueId {
        let perm = [("perm", Attribute::Ints(perm.to_vec()))];
        self.graph.add_op("Transpose", "transpose", &[x], perm)
    }

    /// A layer whose rows are heads in front of tokens.
    pub(super) fn heads(&mut self, name: &str, x: ValueId) -> ValueId {
        let x = self.dense(name, x, [6, 8]);
        let x = self.reshape(x, &[0, 0, 2, 4]);
        self.transpose(x, &[0, 2, 1, 3])
    }

    /// Rotates the last axis by tables of the given extents.
    fn rotated(&mut self, x: ValueId, dims: &[usize]) -> ValueId {
        let [cos, sin] = [(); 2].map(|()| self.table(dims));
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
    pub(super) fn coupling(mut self, q: ValueId, k: ValueId, v: ValueId) -> Coupling {
        let scores = self.graph.add_op("MatMul", "scores", &[q, k], []);
        let axis = [("axis", Attribute::Int(-1))];
        let scores = self.graph.add_op("Softmax", "attention", &[scores], axis);
        let mixed = self.graph.add_op("MatMul", "mixed", &[scores, v], []);
        self.behind(mixed)
    }

    /// The layer behind heads of mixed values, and another one.
    fn behind(mut self, mixed: ValueId) -> Coupling {
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
    // Mixed values have the heads of queries, and the depths of values.
    assert_eq!(fixed(&coupling), [("q", true), ("mixed", false)]);
    assert!(follows(&coupling, "proj"));
}

/// Whether all heads have one order of depths, and the layer of the only head that they meet.
fn common(coupling: &Coupling) -> Vec<(&str, bool, Option<&str>)> {
    let name = |group: GroupId| coupling.group(group).name.as_str();
    let named = |nest: &Nest| (name(nest.channels), nest.is_common, nest.depths.map(name));
    coupling.nests.iter().map(named).collect()
}

#[test]
fn depths_of_queries_are_those_of_the_only_head_of_keys() {
    let (mut net, x) = Net::new();
    let q = net.heads("q", x);
    let [k, v] = ["k", "v"].map(|name| {
        let own = net.dense(name, x, [6, 4]);
        let axis = net.ints(&[1]);
        net.graph.add_op("Unsqueeze", "one", &[own, axis], [])
    });
    let k = net.transpose(k, &[0, 1, 3, 2]);
    let coupling = net.coupling(q, k, v);
    assert_eq!(fixed(&coupling), [("q", false), ("mixed", false)]);
    assert_eq!(common(&coupling), [("q", true, Some("k")), ("mixed", true, Some("v"))]);
    let (pairs, depths) = coupling.pairs_of_heads_and_depths().next().unwrap();
    assert_eq!(coupling.group(pairs.channels).size, 8);
    assert!(coupling.are_depths(depths) && coupling.group(depths).name == "v");
    let proj = coupling.layers.iter().find(|layer| layer.name == "proj").unwrap();
    let read = proj.inputs.iter().flatten().all(|channel| channel.group == pairs.channels);
    assert!(read && proj.inputs.is_some());
}

#[test]
fn mixed_values_that_are_summed_over_heads_are_no_pairs() {
    let (mut net, x) = Net::new();
    let [q, k] = ["q", "k"].map(|name| net.heads(name, x));
    let k = net.transpose(k, &[0, 1, 3, 2]);
    let v = net.dense("v", x, [6, 4]);
    let axis = net.ints(&[1]);
    let v = net.graph.add_op("Unsqueeze", "one", &[v, axis], []);
    let scores = net.graph.add_op("MatMul", "scores", &[q, k], []);
    let mixed = net.graph.add_op("MatMul", "mixed", &[scores, v], []);
    let axes = [("axes", Attribute::Ints(vec![1])), ("keepdims", Attribute::Int(0))];
    let mean = net.graph.add_op("ReduceMean", "mean", &[mixed], axes);
    let y = net.dense("proj", mean, [4, 7]);
    let y = net.dense("last", y, [7, 3]);
    net.graph.outputs.push(y);
    let coupling = coupled(&mut net.graph);
    assert!(coupling.pairs_of_heads_and_depths().next().is_none());
    assert!(fixed(&coupling).contains(&("q", false)), "{:?}", fixed(&coupling));
}

/// Whether depths keep their order where `normalised` changes queries and keys.
fn fixed_by(normalised: impl Fn(&mut Net, ValueId) -> ValueId) -> Vec<(String, bool)> {
    let (mut net, x) = Net::new();
    let [q, k] = ["q", "k"].map(|name| {
        let own = net.heads(name, x);
        normalised(&mut net, own)
    });
    let k = net.transpose(k, &[0, 1, 3, 2]);
    let v = net.heads("v", x);
    let coupling = net.coupling(q, k, v);
    assert!(follows(&coupling, "proj"));
    fixed(&coupling).into_iter().map(|(name, is_fixed)| (name.to_owned(), is_fixed)).collect()
}

fn named(nests: &[(&str, bool)]) -> Vec<(String, bool)> {
    nests.iter().map(|(name, is_fixed)| ((*name).to_owned(), *is_fixed)).collect()
}

#[test]
fn sums_over_depths_need_them_in_any_order() {
    // Queries and keys are one group.
    let free = named(&[("q", false), ("v", false)]);
    for op in ["ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "ReduceMax"] {
        let found = fixed_by(|net, x| {
            let axes = [("axes", Attribute::Ints(vec![-1]))];
            let norm = net.graph.add_op(op, "norm", &[x], axes);
            let norm = net.graph.add_op("Sqrt", "root", &[norm], []);
            net.graph.add_op("Div", "normal", &[x, norm], [])
        });
        assert_eq!(found, free, "{op}");
    }
    for op in ["LpNormalization", "Softmax"] {
        let axis = || [("axis", Attribute::Int(-1))];
        assert_eq!(fixed_by(|net, x| net.graph.add_op(op, "normal", &[x], axis())), free, "{op}");
    }
    let along_tokens = [("axis", Attribute::Int(2))];
    let found = fixed_by(|net, x| net.graph.add_op("Softmax", "y", &[x], along_tokens.clone()));
    assert_eq!(found, free);
}

#[test]
fn numbers_of_each_depth_leave_depths_free() {
    let scaled = |is_even: bool| {
        fixed_by(|net, x| {
            let scale = match is_even {
                true => net.graph.add_initializer("scale", zeros(&[4])),
                false => net.table(&[4]),
            };
            net.graph.add_op("LayerNormalization", "normal", &[x, scale], [])
        })
    };
    assert_eq!(scaled(true), named(&[("q", false), ("v", false)]));
    // All heads have these numbers in common.
    assert_eq!(scaled(false), named(&[("q", false), ("v", false)]));
}

#[test]
fn numbers_of_each_depth_give_all_heads_one_order() {
    let (mut net, x) = Net::new();
    let [q, k] = ["q", "k"].map(|name| {
        let own = net.heads(name, x);
        let scale = net.table(&[4]);
        net.graph.add_op("Mul", "scaled", &[own, scale], [])
    });
    let k = net.transpose(k, &[0, 1, 3, 2]);
    let v = net.heads("v", x);
    let coupling = net.coupling(q, k, v);
    assert_eq!(common(&coupling), [("q", true, None), ("v", false, None)]);
}

#[test]
fn numbers_of_each_head_leave_depths_free() {
    let found = fixed_by(|net, x| {
        let scale = net.table(&[2, 1, 1]);
        net.graph.add_op("Mul", "scaled", &[x, scale], [])
    });
    assert_eq!(found, named(&[("q", false), ("v", false)]));
}

#[test]
fn products_of_each_head_with_one_table_leave_heads() {
    let (mut net, x) = Net::new();
    let [q, k, v] = ["q", "k", "v"].map(|name| net.heads(name, x));
    let k = net.transpose(k, &[0, 1, 3, 2]);
    let scores = net.graph.add_op("MatMul", "scores", &[q, k], []);
    let shifts = net.dense("table", q, [4, 5]);
    let scores = net.graph.add_op("Add", "sum", &[scores, shifts], []);
    let mixed = net.graph.add_op("MatMul", "mixed", &[scores, v], []);
    let coupling = net.behind(mixed);
    // Queries and keys are one group, and all heads have one order of depths.
    assert_eq!(fixed(&coupling), [("q", false), ("v", false)]);
    assert_eq!(common(&coupling), [("q", true, None), ("v", false, None)]);
    assert!(follows(&coupling, "proj"));
    assert!(coupling.layers.iter().all(|layer| layer.name != "table"));
}

#[test]
fn constants_that_scores_mix_give_all_heads_one_order_of_values() {
    let (mut net, x) = Net::new();
    let [q, k, v] = ["q", "k", "v"].map(|name| net.heads(name, x));
    let k = net.transpose(k, &[0, 1, 3, 2]);
    let scores = net.graph.add_op("MatMul", "scores", &[q, k], []);
    let mixed = net.graph.add_op("MatMul", "mixed", &[scores, v], []);
    let turned = net.transpose(scores, &[2, 0, 1, 3]);
    let table = net.table(&[5, 1, 5, 4]);
    let more = net.graph.add_op("MatMul", "more", &[turned, table], []);
    let more = net.transpose(more, &[1, 2, 0, 3]);
    let mixed = net.graph.add_op("Add", "sum", &[mixed, more], []);
    let coupling = net.behind(mixed);
    assert_eq!(fixed(&coupling), [("q", false), ("v", false)]);
    assert_eq!(common(&coupling), [("q", false, None), ("v", true, None)]);
    assert!(follows(&coupling, "proj"));
}

#[test]
fn learned_queries_of_each_head_leave_depths_free() {
    let (mut net, x) = Net::new();
    let [k, v] = ["k", "v"].map(|name| net.heads(name, x));
    let k = net.transpose(k, &[0, 1, 3, 2]);
    let q = net.table(&[1, 2, 5, 4]);
    let coupling = net.coupling(q, k, v);
    assert_eq!(fixed(&coupling), [("k", false), ("v", false)]);
    assert_eq!(common(&coupling), [("k", false, None), ("v", false, None)]);
    assert!(follows(&coupling, "proj"));
}

#[test]
fn depths_stay_free_where_samples_are_repeated_for_windows() {
    let (mut net, x) = Net::new();
    let [q, k, v] = ["q", "k", "v"].map(|name| {
        let own = net.heads(name, x);
        let (axis, copies) = (net.ints(&[1]), net.ints(&[1, 3, 1, 1, 1]));
        let own = net.graph.add_op("Unsqueeze", "one", &[own, axis], []);
        let own = net.graph.add_op("Expand", "three", &[own, copies], []);
        net.reshape(own, &[-1, 2, 5, 4])
    });
    let k = net.transpose(k, &[0, 1, 3, 2]);
    let coupling = net.coupling(q, k, v);
    assert_eq!(fixed(&coupling), [("q", false), ("v", false)]);
    assert!(follows(&coupling, "proj"));
}

#[test]
fn depths_stay_free_in_linear_attention() {
    let (mut net, x) = Net::new();
    let [q, k, v] = ["q", "k", "v"].map(|name| net.heads(name, x));
    let k = net.transpose(k, &[0, 1, 3, 2]);
    let context = net.graph.add_op("MatMul", "context", &[k, v], []);
    let context = net.graph.add_op("Identity", "same", &[context], []);
    let mixed = net.graph.add_op("MatMul", "mixed", &[q, context], []);
    let coupling = net.behind(mixed);
    // Queries and keys are one group.
    assert_eq!(fixed(&coupling), [("q", false), ("v", false)]);
    assert!(follows(&coupling, "proj"));
}

#[test]
fn depths_of_keys_keep_their_order_where_the_context_has_numbers_of_each() {
    let (mut net, x) = Net::new();
    let [q, k, v] = ["q", "k", "v"].map(|name| net.heads(name, x));
    let k = net.transpose(k, &[0, 1, 3, 2]);
    let context = net.graph.add_op("MatMul", "context", &[k, v], []);
    let table = net.table(&[4, 1]);
    let context = net.graph.add_op("Mul", "scaled", &[context, table], []);
    let mixed = net.graph.add_op("MatMul", "mixed", &[q, context], []);
    let coupling = net.behind(mixed);
    assert!(fixed(&coupling).contains(&("k", true)), "{:?}", fixed(&coupling));
}

#[test]
fn keys_and_values_are_one_group_in_attention_between_depths() {
    let (mut net, x) = Net::new();
    let [q, k, v] = ["q", "k", "v"].map(|name| net.heads(name, x));
    let [q, v] = [q, v].map(|own| net.transpose(own, &[0, 1, 3, 2]));
    let scores = net.graph.add_op("MatMul", "scores", &[q, k], []);
    let scores = net.graph.add_op("Softmax", "attention", &[scores], []);
    let mixed = net.graph.add_op("MatMul", "mixed", &[scores, v], []);
    let mixed = net.transpose(mixed, &[0, 1, 3, 2]);
    let coupling = net.behind(mixed);
    // Depths of queries are rows of the scores and of what is mixed by them.
    assert_eq!(fixed(&coupling), [("q", false), ("k", false)]);
    assert!(follows(&coupling, "proj"));
    let proj = coupling.layers.iter().find(|layer| layer.name == "proj").unwrap();
    let queries = coupling.layers.iter().find(|layer| layer.name == "q").unwrap();
    assert_eq!(proj.inputs.as_ref(), Some(&queries.outputs));
}

#[test]
fn products_over_heads_are_not_those_of_each_head() {
    let (mut net, x) = Net::new();
    let [a, b] = ["a", "b"].map(|name| {
        let own = net.dense(name, x, [6, 16]);
        net.reshape(own, &[0, 0, 4, 4])
    });
    let mixed = net.graph.add_op("MatMul", "mixed", &[a, b], []);
    let mixed = net.reshape(mixed, &[0, 0, 16]);
    let y = net.dense("proj", mixed, [16, 7]);
    let y = net.dense("last", y, [7, 3]);
    net.graph.outputs.push(y);
    let coupling = coupled(&mut net.graph);
    assert!(coupling.nests.iter().all(|nest| nest.is_fixed), "{:?}", fixed(&coupling));
}
