use super::*;
use crate::ir::builder::GraphBuilder;
use crate::ir::{Attribute, Model, Node, ValueKind};
use crate::ops::{Flow, NodeView, rule};
use ndarray::{Array2, ArrayD, ArrayView1, IxDyn, concatenate};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const STEPS: usize = 5;
const BATCH: usize = 3;
const WIDTH: usize = 4;
const UNITS: usize = 6;

/// A recurrent node, and whether the reset gate of a GRU comes after the weights.
struct Cell {
    op: &'static str,
    gates: usize,
    reset_last: bool,
    starts: bool,
}

fn random(dims: &[usize], seed: u64) -> ArrayD<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    ArrayD::from_shape_simple_fn(IxDyn(dims), || rng.random_range(-1.0f32..1.0))
}

fn model(cell: &Cell) -> Model {
    let mut b = GraphBuilder::new("net", 14);
    let rows = cell.gates * UNITS;
    let x = b.input("x", "5,3,4");
    let mut inputs = vec![
        Some(x),
        Some(b.weights("w", &[1, rows, WIDTH])),
        Some(b.weights("r", &[1, rows, UNITS])),
        Some(b.weights("b", &[1, 2 * rows])),
        None,
    ];
    if cell.starts {
        inputs.push(Some(b.input("h", "1,3,6")));
    }
    let y = b.graph().add_value("y", ValueKind::Detached, None);
    let reset_last = Attribute::Int(i64::from(cell.reset_last));
    let attributes = [("linear_before_reset", reset_last)];
    b.graph().add_node(Node {
        name: "cell".to_owned(),
        op: cell.op.to_owned(),
        inputs,
        outputs: vec![Some(y)],
        attributes: attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        ..Node::default()
    });
    let model = b.build(&[y]);
    // Canonical form has one bias per gate, but where the reset gate comes last.
    crate::canon::canonicalise(model, &Default::default()).unwrap().into_inner()
}

fn layers(graph: &Graph) -> Vec<Layer> {
    let (id, node) = graph.nodes().next().unwrap();
    match rule(&node.op).unwrap().flow(&NodeView::new(graph, id, &vec![None; 64])) {
        Flow::Recurrent(layers) => layers,
        other => panic!("{other:?}"),
    }
}

fn sigmoid(z: f32) -> f32 {
    1.0 / (1.0 + (-z).exp())
}

/// One sample through the standard's equations: what each layer computes before its activation, and
/// the hidden units, step by step.
fn naive(
    cell: &Cell,
    [w, r, b]: [&ArrayD<f32>; 3],
    x: &Array2<f32>,
    start: ArrayView1<f32>,
) -> (Vec<Array2<f32>>, Array2<f32>) {
    let count = cell.gates + usize::from(cell.op == "GRU" && cell.reset_last);
    let mut before = vec![Array2::zeros((STEPS, UNITS)); count];
    let mut all = Array2::zeros((STEPS, UNITS));
    let (mut h, mut c) = (start.to_owned(), Array1::<f32>::zeros(UNITS));
    let rows = cell.gates * UNITS;
    for t in 0..STEPS {
        let wx =
            |row: usize| (0..WIDTH).map(|i| w[[0, row, i]] * x[[t, i]]).sum::<f32>() + b[[0, row]];
        let rh = |row: usize, h: &Array1<f32>| {
            (0..UNITS).map(|i| r[[0, row, i]] * h[i]).sum::<f32>() + b[[0, rows + row]]
        };
        let gate = |index: usize| -> Array1<f32> {
            (0..UNITS).map(|u| wx(index * UNITS + u) + rh(index * UNITS + u, &h)).collect()
        };
        if cell.op == "LSTM" {
            let z: Vec<Array1<f32>> = (0..4).map(gate).collect();
            c = &z[2].mapv(sigmoid) * &c + z[0].mapv(sigmoid) * z[3].mapv(f32::tanh);
            h = z[1].mapv(sigmoid) * c.mapv(f32::tanh);
            z.iter().zip(&mut before).for_each(|(z, all)| all.row_mut(t).assign(z));
        } else {
            let (z, reset) = (gate(0), gate(1));
            let let_through = &reset.mapv(sigmoid) * &h;
            let input: Array1<f32> = (0..UNITS).map(|u| wx(2 * UNITS + u)).collect();
            let hidden: Array1<f32> = match cell.reset_last {
                true => (0..UNITS).map(|u| rh(2 * UNITS + u, &h)).collect(),
                false => (0..UNITS).map(|u| rh(2 * UNITS + u, &let_through)).collect(),
            };
            let candidate = match cell.reset_last {
                true => &input + &(reset.mapv(sigmoid) * &hidden),
                false => &input + &hidden,
            };
            before[0].row_mut(t).assign(&z);
            before[1].row_mut(t).assign(&reset);
            before[2].row_mut(t).assign(if cell.reset_last { &input } else { &candidate });
            if cell.reset_last {
                before[3].row_mut(t).assign(&hidden);
            }
            let update = z.mapv(sigmoid);
            h = update.mapv(|u| 1.0 - u) * candidate.mapv(f32::tanh) + update * h;
        }
        all.row_mut(t).assign(&h);
    }
    (before, all)
}

#[test]
fn rows_times_weights_are_what_the_gates_compute() {
    let lstm = |starts| Cell { op: "LSTM", gates: 4, reset_last: false, starts };
    let gru = |reset_last| Cell { op: "GRU", gates: 3, reset_last, starts: true };
    for cell in [lstm(false), lstm(true), gru(false), gru(true)] {
        let model = model(&cell);
        let graph = &model.graph;
        let (_, node) = graph.nodes().next().unwrap();
        let constant =
            |slot: usize| graph.initializer(node.input(slot).unwrap()).unwrap().to_f32().unwrap();
        let (w, r, b) = (constant(1), constant(2), constant(3));
        let x = random(&[STEPS, BATCH, WIDTH], 1);
        let start = if cell.starts {
            random(&[1, BATCH, UNITS], 2)
        } else {
            ArrayD::zeros(vec![1, BATCH, UNITS])
        };
        let mut y = ArrayD::zeros(vec![STEPS, 1, BATCH, UNITS]);
        let mut expected: Vec<Vec<Array2<f32>>> = Vec::new();
        for sample in 0..BATCH {
            let own = x.index_axis(Axis(1), sample).to_owned().into_dimensionality().unwrap();
            let first = start.slice(s![0, sample, ..]);
            let (before, all) = naive(&cell, [&w, &r, &b], &own, first);
            y.slice_mut(s![.., 0, sample, ..]).assign(&all);
            expected.push(before);
        }
        let mut taps: Vec<Arc<HostArray>> = vec![Arc::new(x.into()), Arc::new(y.into())];
        if cell.starts {
            taps.push(Arc::new(start.into()));
        }
        for (index, layer) in layers(graph).iter().enumerate() {
            let LayerKind::Gate(gate) = &layer.kind else { panic!() };
            assert_eq!(super::taps(layer, gate, graph).len(), taps.len());
            let rows = rows(layer, gate, graph, &taps).unwrap();
            let found = pre_activations(layer, graph, &rows).unwrap();
            for (sample, expected) in expected.iter().enumerate() {
                let worst = (&found.index_axis(Axis(0), sample) - &expected[index])
                    .iter()
                    .fold(0.0f32, |m, v| m.max(v.abs()));
                assert!(worst < 1e-5, "{} {index}: {worst}", cell.op);
            }
        }
    }
}

#[test]
fn weights_are_written_where_they_are_read() {
    for (op, gates, reset_last) in [("LSTM", 4, false), ("GRU", 3, true), ("RNN", 1, false)] {
        let cell = Cell { op, gates, reset_last, starts: false };
        let mut model = model(&cell);
        let all = layers(&model.graph);
        let before: Vec<_> = all.iter().map(|l| l.read(&model.graph).unwrap()).collect();
        for layer in &all {
            let some = Layer { rows: Some(vec![4, 1]), ..layer.clone() };
            let (w, bias) =
                (some.read(&model.graph).unwrap() + 1.0, some.read_bias(&model.graph).unwrap());
            let bias = bias.unwrap() - 1.0;
            some.write(&mut model.graph, &w, Some(&bias)).unwrap();
            assert_eq!(some.read(&model.graph).unwrap(), w, "{op}");
            assert_eq!(some.read_bias(&model.graph).unwrap(), Some(bias), "{op}");
        }
        for (layer, before) in all.iter().zip(before) {
            let after = layer.read(&model.graph).unwrap() - before;
            let moved: Vec<f32> = after.rows().into_iter().map(|r| r.sum().round()).collect();
            assert!(moved.iter().any(|m| *m != 0.0), "{op}");
            let rows = after.outer_iter().map(|row| row.iter().any(|v| *v != 0.0));
            assert_eq!(rows.collect::<Vec<_>>(), [false, true, false, false, true, false], "{op}");
        }
    }
}

#[test]
fn steps_behind_the_end_of_a_sequence_are_earlier_ones() {
    let mut rows = Array3::from_shape_fn((3, 4, 2), |(n, t, i)| (100 * n + 10 * t + i + 1) as f32);
    let whole = rows.clone();
    repeat_steps(&mut rows, &[4, 3, 0]).unwrap();
    assert_eq!(rows.slice(s![0, .., ..]), whole.slice(s![0, .., ..]));
    assert_eq!(rows.slice(s![1, ..3, ..]), whole.slice(s![1, ..3, ..]));
    assert_eq!(rows.slice(s![1, 3, ..]), whole.slice(s![1, 0, ..]));
    assert!(rows.slice(s![2, .., ..]).iter().all(|v| *v == 0.0));
    assert!(repeat_steps(&mut rows, &[4, 3]).is_err());
}

#[test]
fn rows_lie_one_after_the_other() {
    let part = |steps: usize, width: usize| {
        random(&[2, steps, width], 1).into_dimensionality::<Ix3>().unwrap()
    };
    let (a, b) = (part(3, 4), part(3, 6));
    let both = side_by_side(&a, &b).unwrap();
    assert!(both.is_standard_layout(), "copies of rows are copies of runs");
    assert_eq!(both, concatenate(Axis(2), &[a.view(), b.view()]).unwrap());
    assert!(side_by_side(&a, &part(2, 6)).is_err());
    let ordered = by_sample(a.clone());
    assert!(ordered.is_standard_layout());
    assert_eq!(ordered, a.permuted_axes([1, 0, 2]));
}
