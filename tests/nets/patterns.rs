//! Laws on nets with unusual patterns: gates, sub-graphs, outputs of every type.

mod attended;
mod biased;
mod control;
mod coupled;
mod cut;
mod laid_out;
mod net;
mod products;
mod rows;
mod stored;
mod streaming;
mod summed;
mod transposed;
mod unread;
mod written;

use onnx_zip::canon::BatchNorm;
use onnx_zip::emit::{self, EmitOptions};
use onnx_zip::ir::{Graph, Model, Node};
use onnx_zip::mtz::plan::sizes;
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
            &[laid_out::PATTERNS, biased::PATTERNS, streaming::PATTERNS, attended::PATTERNS],
            &[
                cut::PATTERNS,
                products::PATTERNS,
                transposed::PATTERNS,
                unread::PATTERNS,
                summed::PATTERNS,
                written::PATTERNS,
                coupled::PATTERNS,
            ],
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
