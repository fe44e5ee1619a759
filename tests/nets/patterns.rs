//! Laws on nets with unusual patterns: gates, sub-graphs, outputs of every type.

mod added;
mod attended;
mod batched;
mod biased;
mod common;
mod contracted;
mod control;
mod coupled;
mod cut;
mod exchanged;
mod heads;
mod joined;
mod laid_out;
mod mixed;
mod net;
mod normalised;
mod placed;
mod products;
mod quantised;
mod ranked;
mod repeated;
mod resized;
pub mod rotary;
mod rows;
mod stepped;
mod stored;
mod streaming;
mod summed;
mod transposed;
mod unbiased;
mod unread;
mod written;

use onnx_zip::canon::BatchNorm;
use onnx_zip::emit::{self, EmitOptions, InputMode};
use onnx_zip::ir::{DataType, Graph, Model, Node, Tensor};
use onnx_zip::mtz::plan::sizes;
use onnx_zip::onnx;
use onnx_zip::runtime::HostArray;

use crate::exact::{alike, batch, check, merge, run};
use crate::permute::permuted;
use crate::rewrite;
use crate::support;
use net::Pattern;

fn each(law: fn(&Pattern)) {
    let all = [net::PATTERNS, rows::PATTERNS, stored::PATTERNS, control::PATTERNS];
    each_of(
        &[
            all.as_slice(),
            &[
                laid_out::PATTERNS,
                biased::PATTERNS,
                streaming::PATTERNS,
                attended::PATTERNS,
                batched::PATTERNS,
            ],
            &[
                cut::PATTERNS,
                products::PATTERNS,
                transposed::PATTERNS,
                unbiased::PATTERNS,
                unread::PATTERNS,
                summed::PATTERNS,
                repeated::PATTERNS,
                written::PATTERNS,
                coupled::PATTERNS,
                added::PATTERNS,
                joined::PATTERNS,
                stepped::PATTERNS,
            ],
            &[resized::PATTERNS, resized::NEWER, contracted::PATTERNS],
            &[ranked::PATTERNS, exchanged::PATTERNS, rotary::PATTERNS, normalised::PATTERNS],
            &[quantised::PATTERNS, placed::PATTERNS, mixed::PATTERNS, common::PATTERNS],
        ]
        .concat(),
        law,
    );
}

fn each_of(all: &[&[Pattern]], law: fn(&Pattern)) {
    let failed: Vec<&str> = all
        .iter()
        .copied()
        .flatten()
        .filter(|pattern| std::panic::catch_unwind(|| law(pattern)).is_err())
        .map(|pattern| pattern.0)
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn sharing_nothing_leaves_every_output_as_it_is() {
    each(|pattern| {
        let nets = [1, 2].map(|seed| net::net(pattern, seed));
        let batch = batch(&nets[0]);
        let wanted: Vec<Vec<HostArray>> = nets.iter().map(|net| run(net, &batch)).collect();
        check(&merge(nets, 0.0), &batch, &wanted, pattern.0);
    });
}

#[test]
fn every_form_computes_what_the_task_nets_do() {
    each(|pattern| {
        let nets = [1, 2].map(|seed| net::net(pattern, seed));
        let batch = batch(&nets[0]);
        let joint = merge(nets, 0.5);
        let wanted: Vec<Vec<HostArray>> =
            joint.tasks().iter().map(|task| run(task.model(), &batch)).collect();
        check(&joint, &batch, &wanted, pattern.0);
    });
}

#[test]
fn heads_of_heads_are_merged_as_they_are() {
    each_of(&[placed::NESTED], |pattern| {
        for share in [0.0, 0.5, 1.0] {
            let nets = [1, 2].map(|seed| net::net(pattern, seed));
            let batch = batch(&nets[0]);
            let joint = merge(nets, share);
            let wanted: Vec<Vec<HostArray>> =
                joint.tasks().iter().map(|task| run(task.model(), &batch)).collect();
            check(&joint, &batch, &wanted, pattern.0);
        }
    });
}

#[test]
fn a_permuted_copy_is_recognised_and_nothing_is_lost() {
    each(|pattern| {
        let a = net::net(pattern, 1);
        let b = permuted(&a, 7);
        let batch = batch(&a);
        let wanted = run(&a, &batch);
        for (found, wanted) in run(&b, &batch).iter().zip(&wanted) {
            alike(found, wanted, "the copy computes the same");
        }
        let joint = merge([a, b], 1.0);
        check(&joint, &batch, &[wanted.clone(), wanted], pattern.0);
        let sizes = sizes(&joint).unwrap();
        // Output layers stay each task's own: their weights are the same in another order.
        let own = sizes.joint() - sizes.originals[0];
        assert!(own <= 5 * 8 + 5, "{}: {own} parameters are stored twice", pattern.0);
    });
}

/// Number of elements of the float constants that nodes read.
fn parameters(model: &Model) -> u64 {
    let readers = model.graph.consumers();
    let read = model.graph.values().filter(|(id, _)| !readers[id.index()].is_empty());
    let constants = read.filter_map(|(id, _)| model.graph.initializer(id));
    constants.filter(|tensor| tensor.dtype.is_float()).map(|tensor| tensor.len() as u64).sum()
}

#[test]
fn a_layer_that_is_applied_several_times_counts_once() {
    each_of(&[repeated::PATTERNS], |pattern| {
        let nets = [1, 2].map(|seed| net::net(pattern, seed));
        let given = nets.each_ref().map(parameters);
        let originals = sizes(&merge(nets, 0.0)).unwrap().originals;
        match repeated::PLAIN.contains(&pattern.0) {
            true => assert_eq!(originals, given, "{}", pattern.0),
            // Canonical form gives layers biases, and normalisations are no layers.
            false => {
                let all_at_most =
                    originals.iter().zip(given).all(|(counted, n)| *counted <= n + 16);
                assert!(all_at_most, "{}: {originals:?} of {given:?}", pattern.0);
            }
        }
    });
}

#[test]
fn a_layer_that_is_applied_several_times_is_stored_once_per_task_at_most() {
    each_of(&[repeated::PATTERNS], |pattern| {
        for share in [0.0, 0.5, 1.0] {
            let nets = [1, 2].map(|seed| net::net(pattern, seed));
            let given: u64 = nets.iter().map(parameters).sum();
            let joint = merge(nets, share);
            let stored = parameters(&emit::emit(&joint, &EmitOptions::default()).unwrap());
            // Refits may give a bias to a layer without one.
            let most = given + if share > 0.0 { 2 * 8 } else { 0 };
            assert!(stored <= most, "{} at {share}: {stored} of {given}", pattern.0);
            let trained = emit::trainable(&joint, InputMode::Auto).unwrap();
            let trained = parameters(&trained.model);
            // Normalisations train by use.
            assert!(trained <= most + 2 * 40, "{} at {share}: {trained} trained", pattern.0);
        }
    });
}

/// Number of elements that the file of a model holds in a type.
fn stored(model: &Model, dtype: DataType) -> usize {
    let bytes = onnx::encode(model).unwrap();
    let read = onnx::decode(bytes.into(), None, "read").unwrap().graph;
    let constants = read.values().filter_map(|(id, _)| read.initializer(id));
    constants.filter(|tensor| tensor.dtype == dtype).map(Tensor::len).sum()
}

#[test]
fn merged_weights_are_stored_in_as_few_bits_as_those_of_the_models() {
    for (pattern, dtype) in quantised::STORED {
        for (share, nets) in [(0.0, 2), (1.0, 1)] {
            let joint = merge([1, 2].map(|seed| net::net(&pattern, seed)), share);
            assert!(joint.has_common_weights().unwrap(), "{}", pattern.0);
            let joint = emit::emit(&joint, &EmitOptions::default()).unwrap();
            let found = stored(&joint, dtype);
            assert!(found >= nets * (16 * 12 + 8 * 16), "{} at {share}: {found}", pattern.0);
            for task in emit::restore(&joint).unwrap().tasks() {
                let own = stored(task.model(), dtype);
                assert!(own >= 16 * 12 + 8 * 16, "{} at {share}, taken apart: {own}", pattern.0);
            }
        }
    }
}

#[test]
fn weights_in_few_bits_are_shared_with_weights_as_floats() {
    for pair in quantised::PAIRS {
        let nets = [0, 1].map(|place| net::net(&pair[place], place + 1));
        let joint = merge(nets, 1.0);
        assert!(joint.has_common_weights().unwrap(), "{} and {}", pair[0].0, pair[1].0);
    }
}

/// The order in which branches are computed decides nothing: each layer gets its weights from both.
#[test]
fn all_uses_of_a_layer_count_alike() {
    let orders: [Pattern; 2] =
        [repeated::PATTERNS[0], ("other way round", repeated::other_way_round)];
    let weights = orders.map(|pattern| {
        let joint = merge([1, 2].map(|seed| net::net(&pattern, seed)), 1.0);
        let task = &joint.tasks()[0];
        let layers = task.coupling().layers.iter().filter(|layer| layer.repeats().is_none());
        let read = layers.map(|layer| layer.layer.read(task.graph()).unwrap().into_dyn());
        read.collect::<Vec<_>>()
    });
    for (one, other) in weights[0].iter().zip(&weights[1]) {
        assert!(support::deviation(one, other) < 1e-3);
    }
}

#[test]
fn a_permuted_copy_of_repeated_layers_is_stored_once() {
    each_of(&[repeated::PATTERNS], |pattern| {
        let a = net::net(pattern, 1);
        let (alone, b) = (parameters(&a), permuted(&a, 7));
        let joint = emit::emit(&merge([a, b], 1.0), &EmitOptions::default()).unwrap();
        let own = parameters(&joint).saturating_sub(alone);
        assert!(own <= 5 * 8 + 5, "{}: {own} parameters are stored twice", pattern.0);
    });
}

/// Number of nodes that pick entries of computed values one by one.
fn gathers(model: &Model) -> usize {
    let is_computed = |node: &&Node| {
        let data = node.inputs.first().copied().flatten();
        node.is("Gather") && data.is_some_and(|data| model.graph.initializer(data).is_none())
    };
    model.graph.nodes().map(|(_, node)| node).filter(is_computed).count()
}

#[test]
fn copies_of_channels_keep_their_places() {
    each_of(&[laid_out::PATTERNS, biased::PATTERNS], |pattern| {
        let a = net::net(pattern, 1);
        let b = permuted(&a, 7);
        assert_eq!((gathers(&a), gathers(&b)), (0, 0), "{}", pattern.0);
        let joint = emit::emit(&merge([a, b], 1.0), &EmitOptions::default()).unwrap();
        assert_eq!(gathers(&joint), 0, "{}", pattern.0);
    });
}

#[test]
fn a_rewritten_copy_is_recognised() {
    each(|pattern| rewrite::recognised(&net::net(pattern, 1), pattern.0));
}

/// The bytes of all constants, those of sub-graphs and nodes included.
fn constants(model: &Model) -> usize {
    fn of(graph: &Graph) -> usize {
        let own = graph.values().filter_map(|(id, _)| graph.initializer(id));
        let own: usize = own.map(|tensor| tensor.data.len()).sum();
        own + graph.nodes().flat_map(|(_, node)| node.subgraphs()).map(of).sum::<usize>()
    }
    of(&model.graph)
}

/// Channels are not followed inside sub-graphs, so their weights are not paired.
#[test]
fn equal_weights_in_branches_are_stored_once() {
    for pattern in control::PATTERNS {
        let nets = [1, 1].map(|seed| net::net(pattern, seed));
        let alone = constants(&support::canonical(&nets[0], BatchNorm::Fold));
        let joint = emit::emit(&merge(nets, 1.0), &EmitOptions::default()).unwrap();
        let more = constants(&joint).saturating_sub(alone);
        assert!(more < 200, "{}: {more} bytes more than the {alone} of one net", pattern.0);
    }
}
