//! Laws on randomly drawn nets over the table of operators.
//!
//! By default, each run tries the same few nets. `ONNX_ZIP_DRAWN_NETS=1000` tries that many other nets.
//! A net that breaks a law is shrunk and printed; add it to `patterns`. The laws do not hold for all
//! nets yet: `cargo test --release --test nets -- --ignored drawn` shows the smallest nets that break
//! them.

mod control;
mod features;
mod images;
mod net;
mod sequences;

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use onnx_zip::emit::{self, EmitOptions};
use onnx_zip::ir::{DataType, Model};
use onnx_zip::runtime::{self, Backend, HostArray, RuntimeChoice, RuntimeOptions};

use crate::exact::{batch, check_in, merge, run_in};
use crate::permute::permuted;
use crate::support::backend;
use net::{Drawn, net};

/// Default number of nets per law.
const NETS: u32 = 12;

fn drawn() -> impl Strategy<Value = Drawn> {
    let steps = proptest::collection::vec((any::<u8>(), any::<u8>()), 1..6);
    (0..8u8, steps, any::<u8>()).prop_map(|(start, steps, end)| Drawn { start, steps, end })
}

/// Tries a law on drawn nets.
fn each(law: fn(&Drawn)) {
    let asked = std::env::var("ONNX_ZIP_DRAWN_NETS").ok().and_then(|n| n.parse().ok());
    let mut seed = [0; 32];
    if asked.is_some() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        seed[..16].copy_from_slice(&now.as_nanos().to_le_bytes());
    }
    let config = Config {
        cases: asked.unwrap_or(NETS),
        failure_persistence: None,
        max_shrink_iters: 400,
        ..Config::default()
    };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let outcome = runner.run(&drawn(), |drawn| {
        law(&drawn);
        Ok(())
    });
    if let Err(TestError::Fail(reason, drawn)) = outcome {
        panic!("{drawn:?}: {reason}");
    }
}

/// A runtime, and the outputs of each net in it.
type Answers = (Arc<dyn Backend>, Vec<Vec<HostArray>>);

/// The available runtimes that can run all nets, each with the nets' outputs for a batch.
fn runtimes(nets: &[Model], batch: &[HostArray]) -> Vec<Answers> {
    let choices = [RuntimeChoice::Ort, RuntimeChoice::Tract];
    let opened = choices.into_iter().filter_map(|choice| {
        runtime::open(&RuntimeOptions { choice, ..RuntimeOptions::default() }).ok()
    });
    let able = opened.filter_map(|backend| {
        let outputs = nets.iter().map(|net| run_in(&backend, net, batch)).collect::<Result<_, _>>();
        Some((backend, outputs.ok()?))
    });
    able.collect()
}

#[test]
#[ignore = "tract refuses a second If in one model, though it runs the nets alone"]
fn sharing_nothing_leaves_drawn_nets_as_they_are() {
    each(|drawn| {
        let nets = [1, 2].map(|seed| net(drawn, seed));
        let batch = batch(&nets[0]);
        let runtimes = runtimes(&nets, &batch);
        let joint = merge(nets, 0.0);
        for (backend, wanted) in runtimes {
            check_in(&backend, &joint, &batch, &wanted, &backend.describe());
        }
    });
}

#[test]
#[ignore = "tract refuses a second If in one model, though it runs the nets alone"]
fn every_form_computes_what_drawn_task_nets_do() {
    each(|drawn| {
        let nets = [1, 2].map(|seed| net(drawn, seed));
        let batch = batch(&nets[0]);
        let joint = merge(nets, 0.5);
        let nets: Vec<Model> = joint.tasks().iter().map(|task| task.model().clone()).collect();
        for (backend, wanted) in runtimes(&nets, &batch) {
            check_in(&backend, &joint, &batch, &wanted, &backend.describe());
        }
    });
}

#[test]
#[ignore = "nets whose first layer reads a softmax of the input have no columns in common"]
fn a_permuted_copy_of_a_drawn_net_is_half_the_size() {
    each(|drawn| {
        let a = net(drawn, 1);
        let b = permuted(&a, 7);
        let batch = batch(&a);
        let wanted = run_in(&backend(), &a, &batch).unwrap();
        let joint = merge([a, b], 1.0);
        check_in(&backend(), &joint, &batch, &[wanted.clone(), wanted], "copy");
        let written = emit::emit(&joint, &EmitOptions::default()).unwrap();
        let (stored, one) = (floats(&written), floats(joint.tasks()[0].model()));
        assert!(stored <= one, "{stored} floats are stored in place of {one}");
    });
}

/// Number of floats in the constants that a model's outputs depend on.
fn floats(model: &Model) -> usize {
    let graph = &model.graph;
    let read: BTreeSet<_> = graph.nodes().flat_map(|(_, node)| node.reads()).collect();
    let constants = read.into_iter().filter_map(|value| graph.initializer(value));
    constants.filter(|tensor| tensor.dtype == DataType::F32).map(|tensor| tensor.len()).sum()
}
