//! Test error of merged nets: all hidden layers fully shared, no retraining, all 10 000 test images
//! of each task, 10 000 calibration images. The bounds are those of `docs/method.md`.

use onnx_zip::mtz::options::{MergeOptions, Method};

use crate::support::{error, images, merge, model};

/// Mean increase of the test error over both tasks, in percentage points.
fn increase(nets: [(&str, &str); 2], method: Method, samples: usize) -> f64 {
    let loaded = nets.map(|(net, task)| {
        let net = model(net);
        let data = images(&net, &format!("{task}_train"), samples);
        (net, data)
    });
    let before: Vec<f64> = loaded
        .iter()
        .zip(nets)
        .map(|((net, _), (_, task))| error(net, &images(net, &format!("{task}_test"), 10_000)))
        .collect();
    let (joint, outcome) = merge(loaded, &MergeOptions { method, ..MergeOptions::default() });
    let hidden = outcome.sites.len() - 1;
    for site in &outcome.sites[..hidden] {
        assert_eq!(site.shared, site.neurons[0], "{:?} is shared fully", site.layers);
    }
    let after: Vec<f64> = joint
        .tasks()
        .iter()
        .zip(nets)
        .map(|(t, (_, task))| error(t.model(), &images(t.model(), &format!("{task}_test"), 10_000)))
        .collect();
    println!("{nets:?} {method:?}: {before:?} -> {after:?}");
    (after.iter().sum::<f64>() - before.iter().sum::<f64>()) / 2.0
}

const A300: (&str, &str) = ("lenet300_mnist_a", "mnist");
const B300: (&str, &str) = ("lenet300_mnist_b", "mnist");
const FASHION300: (&str, &str) = ("lenet300_fashion", "fashion");
const A5: (&str, &str) = ("lenet5_mnist_a", "mnist");
const B5: (&str, &str) = ("lenet5_mnist_b", "mnist");

#[test]
fn two_fully_connected_nets_of_one_task() {
    assert!(increase([A300, B300], Method::Mtz, 10_000) <= 1.8);
    assert!(increase([A300, B300], Method::Refit, 10_000) <= 0.20);
}

#[test]
fn two_fully_connected_nets_of_two_tasks() {
    assert!(increase([A300, FASHION300], Method::Mtz, 10_000) <= 2.6);
    assert!(increase([A300, FASHION300], Method::Refit, 10_000) <= 0.90);
}

#[test]
fn two_convolutional_nets_of_one_task() {
    assert!(increase([A5, B5], Method::Mtz, 10_000) <= 1.7);
    assert!(increase([A5, B5], Method::Refit, 10_000) <= 0.22);
}

#[test]
fn refit_keeps_deep_nets_usable_where_the_paper_s_rule_does_not() {
    for net in ["vggbn", "resnet"] {
        let (a, b) = (format!("zoo/{net}_mnist"), format!("zoo/{net}_fashion"));
        let nets = [(a.as_str(), "mnist"), (b.as_str(), "fashion")];
        let (mtz, refit) = (increase(nets, Method::Mtz, 2000), increase(nets, Method::Refit, 2000));
        assert!(refit < 6.0 && refit < mtz / 4.0, "{net}: mtz {mtz}, refit {refit}");
    }
}
