//! Laws on randomly drawn nets over the table of operators.
//!
//! A run tries the same few nets every time; with `ONNX_ZIP_DRAWN_NETS=1000`, it tries a thousand others. A net
//! that breaks a law is reduced to a minimal one and printed; add it to `patterns`.

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
use onnx_zip::error::Result;
use onnx_zip::ir::{DataType, Model};
use onnx_zip::mtz::joint::JointModel;
use onnx_zip::runtime::{self, Backend, HostArray, RuntimeChoice, RuntimeOptions};

use crate::exact::{batch, check_in, merge, run_in};
use crate::permute::permuted;
use crate::rewrite;
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

fn open(choice: RuntimeChoice) -> Arc<dyn Backend> {
    runtime::open(&RuntimeOptions { choice, ..RuntimeOptions::default() }).unwrap()
}

/// The outputs of nets.
fn answers(backend: &Arc<dyn Backend>, nets: &[Model], batch: &[HostArray]) -> Result<Answers> {
    nets.iter().map(|net| run_in(backend, net, batch)).collect()
}

type Answers = Vec<Vec<HostArray>>;

/// Checks that all forms of `joint` compute the outputs of `nets`: in ONNX Runtime, which must run all of
/// them, and in tract as far as it can run them.
fn answers_as(joint: &JointModel, nets: &[Model], batch: &[HostArray]) {
    let ort = open(RuntimeChoice::Ort);
    let wanted = answers(&ort, nets, batch).unwrap();
    check_in(&ort, joint, batch, &wanted, "ONNX Runtime").unwrap();
    let tract = open(RuntimeChoice::Tract);
    if let Ok(wanted) = answers(&tract, nets, batch) {
        // It refuses some models, such as those with two `If`.
        let _ = check_in(&tract, joint, batch, &wanted, "tract");
    }
}

#[test]
fn sharing_nothing_leaves_drawn_nets_as_they_are() {
    each(|drawn| {
        let nets = [1, 2].map(|seed| net(drawn, seed));
        let joint = merge(nets.clone(), 0.0);
        answers_as(&joint, &nets, &batch(&nets[0]));
    });
}

#[test]
fn every_form_computes_what_drawn_task_nets_do() {
    each(|drawn| {
        let nets = [1, 2].map(|seed| net(drawn, seed));
        let batch = batch(&nets[0]);
        let joint = merge(nets, 0.5);
        let nets: Vec<Model> = joint.tasks().iter().map(|task| task.model().clone()).collect();
        answers_as(&joint, &nets, &batch);
    });
}

#[test]
fn a_permuted_copy_of_a_drawn_net_is_half_the_size() {
    each(|drawn| {
        let a = net(drawn, 1);
        let joint = merge([a.clone(), permuted(&a, 7)], 1.0);
        let written = emit::emit(&joint, &EmitOptions::default()).unwrap();
        let (stored, one) = (floats(&written), floats(joint.tasks()[0].model()));
        assert!(stored <= one, "{stored} floats are stored in place of {one}");
        answers_as(&joint, &[a.clone(), a.clone()], &batch(&a));
    });
}

#[test]
fn a_rewritten_copy_of_a_drawn_net_is_recognised() {
    each(|drawn| rewrite::recognised(&net(drawn, 1), &format!("{drawn:?}")));
}

/// Number of floats in the constants that a model's outputs depend on.
fn floats(model: &Model) -> usize {
    let graph = &model.graph;
    let read: BTreeSet<_> = graph.nodes().flat_map(|(_, node)| node.reads()).collect();
    let constants = read.into_iter().filter_map(|value| graph.initializer(value));
    constants.filter(|tensor| tensor.dtype == DataType::F32).map(|tensor| tensor.len()).sum()
}
