//! Test errors of merged nets with all hidden layers fully shared, without retraining. The bounds for
//! fully connected and shallow nets are those of `docs/method.md`, with 10 000 images for calibration
//! and for the test.

use onnx_zip::mtz::options::{MergeOptions, Method};

use crate::support::{error, images, merge, model};

type Named<'a> = (&'a str, &'a str);

/// Mean increase of the test error over both tasks, in percentage points: with the paper's rule, and
/// with refits. `samples` are the images for calibration and for the test, per task; `max_rows` the rows of a
/// layer.
fn increases(nets: [Named<'_>; 2], samples: usize, max_rows: usize) -> [f64; 2] {
    let loaded = nets.map(|(net, _)| model(net));
    let of_part = |part: &str| {
        let tasks = loaded.iter().zip(nets);
        tasks.map(|(net, (_, task))| images(net, &format!("{task}_{part}"), samples)).collect()
    };
    let (train, test): (Vec<_>, Vec<_>) = (of_part("train"), of_part("test"));
    let before: Vec<f64> = loaded.iter().zip(&test).map(|(net, data)| error(net, data)).collect();
    [Method::Mtz, Method::Refit].map(|method| {
        let inputs = [0, 1].map(|task| (loaded[task].clone(), train[task].clone()));
        let options = MergeOptions { method, max_rows, ..MergeOptions::default() };
        let (joint, outcome) = merge(inputs, &options);
        let hidden = outcome.sites.len() - 1;
        for site in &outcome.sites[..hidden] {
            assert_eq!(site.shared, site.neurons[0], "{:?} is shared fully", site.layers);
        }
        let tasks = joint.tasks().iter().zip(&test);
        let after: Vec<f64> = tasks.map(|(task, data)| error(task.model(), data)).collect();
        println!("{nets:?} {method:?}: {before:?} -> {after:?}");
        (after.iter().sum::<f64>() - before.iter().sum::<f64>()) / 2.0
    })
}

const A300: Named<'_> = ("lenet300_mnist_a", "mnist");
const B300: Named<'_> = ("lenet300_mnist_b", "mnist");
const FASHION300: Named<'_> = ("lenet300_fashion", "fashion");
const A5: Named<'_> = ("lenet5_mnist_a", "mnist");
const B5: Named<'_> = ("lenet5_mnist_b", "mnist");

/// Checks both methods against the bounds of the documentation.
fn check(nets: [Named<'_>; 2], mtz: f64, refit: f64) {
    let found = increases(nets, 10_000, MergeOptions::default().max_rows);
    assert!(found[0] <= mtz && found[1] <= refit, "{nets:?}: {found:?}");
}

#[test]
fn two_fully_connected_nets_of_one_task() {
    check([A300, B300], 1.8, 0.20);
}

#[test]
fn two_fully_connected_nets_of_two_tasks() {
    check([A300, FASHION300], 2.6, 0.90);
}

#[test]
fn two_convolutional_nets_of_one_task() {
    check([A5, B5], 1.7, 0.22);
}

#[test]
fn refit_keeps_deep_nets_usable_where_the_paper_s_rule_does_not() {
    for net in ["vggbn", "resnet"] {
        let (a, b) = (format!("zoo/{net}_mnist"), format!("zoo/{net}_fashion"));
        let [mtz, refit] = increases([(&a, "mnist"), (&b, "fashion")], 2000, 1 << 15);
        assert!(refit < 6.0 && refit < mtz / 4.0, "{net}: mtz {mtz}, refit {refit}");
    }
}
