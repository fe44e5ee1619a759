//! The check of canonical forms.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::ir::Model;
use crate::ir::builder::GraphBuilder;

/// Compares a net with its canonical form in `backend`.
fn compared(backend: &dyn Backend) -> Result<Finding> {
    compared_with(ModelSource::Bytes(b"net"), backend)
}

fn compared_with(canonical: ModelSource<'_>, backend: &dyn Backend) -> Result<Finding> {
    let data = Dataset::synthetic(&[port("x")], 20, 0, &DataOptions::default())?;
    let form =
        Form { task: "a", original: ModelSource::Bytes(b"original"), canonical, data: &data };
    check_canonical(&form, backend)
}

#[test]
fn canonical_form_computes_what_the_net_does() {
    compared(&GOOD).unwrap();
    compared(&Fake { net: Load(1.04), ..GOOD }).unwrap();
    let error = compared(&Fake { net: Load(1.1), ..GOOD }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Parity);
    let text = error.to_string();
    assert!(text.contains("output 'y' differs by 10.0 %") && text.contains('a'), "{text}");
    assert!(compared(&Fake { net: Load(f32::NAN), ..GOOD }).is_err());
}

#[test]
fn canonical_form_is_not_judged_by_a_runtime_that_cannot_run_both() {
    for (original, net) in [(FailToLoad, Load(2.0)), (FailToRun, Load(2.0)), (Load(1.0), FailToRun)]
    {
        compared(&Fake { original, net, ..GOOD }).unwrap();
    }
}

#[test]
fn a_net_that_takes_one_sample_at_a_time_is_told() {
    /// A runtime that refuses batches.
    struct Lone(Box<dyn Session>);

    impl Session for Lone {
        fn inputs(&self) -> &[Port] {
            self.0.inputs()
        }

        fn outputs(&self) -> &[Port] {
            self.0.outputs()
        }

        fn run(&mut self, inputs: &[(&str, &HostArray)]) -> Result<Vec<HostArray>> {
            if inputs[0].1.shape()[0] == 1 { self.0.run(inputs) } else { Err(broken()) }
        }
    }

    struct Refusing(f32);

    impl Backend for Refusing {
        fn name(&self) -> &'static str {
            GOOD.name
        }

        fn describe(&self) -> String {
            GOOD.describe()
        }

        fn load(&self, source: ModelSource<'_>) -> Result<Box<dyn Session>> {
            Ok(Box::new(Lone(Fake { net: Load(self.0), ..GOOD }.load(source)?)))
        }
    }

    assert!(compared(&Refusing(1.0)).unwrap().runs_alone);
    assert!(compared(&Refusing(2.0)).is_err());
    assert!(!compared(&GOOD).unwrap().runs_alone);
    assert!(!compared(&Fake { original: FailToRun, ..GOOD }).unwrap().runs_alone);
}

#[test]
fn canonical_form_of_a_net_that_draws_numbers_is_not_judged() {
    /// A runtime whose results differ from load to load.
    struct Drawing(AtomicU32);

    impl Backend for Drawing {
        fn name(&self) -> &'static str {
            GOOD.name
        }

        fn describe(&self) -> String {
            GOOD.describe()
        }

        fn load(&self, source: ModelSource<'_>) -> Result<Box<dyn Session>> {
            let value = Load(self.0.fetch_add(1, Ordering::Relaxed) as f32);
            Fake { original: value, net: value, ..GOOD }.load(source)
        }
    }

    compared(&Drawing(AtomicU32::new(1))).unwrap();
}

/// A runtime in which canonical form and each change of it has an output larger by this.
struct Moved(f32, AtomicU32);

impl Backend for Moved {
    fn name(&self) -> &'static str {
        GOOD.name
    }

    fn describe(&self) -> String {
        GOOD.describe()
    }

    fn load(&self, source: ModelSource<'_>) -> Result<Box<dyn Session>> {
        let number = match source {
            ModelSource::Graph(_) => self.1.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
        Fake { net: Load(1.2 + self.0 * number as f32), ..GOOD }.load(source)
    }
}

fn net(op: &str) -> Model {
    let mut b = GraphBuilder::new("net", 17);
    let (x, step) = (b.input("x", "n,2"), b.scalar("step", 0.1));
    let y = b.op(op, "y", &[x, step], []);
    b.build(&[y])
}

#[test]
fn canonical_form_may_differ_as_far_as_small_changes_of_weights_move_the_net() {
    let found = |op: &str, moves: f32| {
        let backend = Moved(moves, AtomicU32::new(0));
        compared_with(ModelSource::Graph(&net(op)), &backend)
    };
    let Likeness::Unsteady(why) = found("QuantizeLinear", 0.1).unwrap().likeness else {
        panic!("the net is not steady")
    };
    assert!(why.contains("output 'y' differs by 20.0 %"), "{why}");
    assert!(found("QuantizeLinear", 0.001).is_err(), "rounding explains less");
    assert!(found("Mul", 0.1).is_err(), "nothing is rounded");
}

#[test]
fn a_file_may_differ_as_far_as_small_changes_of_weights_move_its_net() {
    let data = Dataset::synthetic(&[port("x")], 8, 0, &DataOptions::default()).unwrap();
    let found = |op: &str, moves: f32| {
        let net = net(op);
        let subject = Subject {
            task: "a",
            original: ModelSource::Bytes(b"original"),
            net: Some(ModelSource::Graph(&net)),
            reading: Reading::default(),
            data: &data,
            reported: None,
            is_untouched: false,
        };
        let backends: [Arc<dyn Backend>; 1] = [Arc::new(Moved(moves, AtomicU32::new(0)))];
        let joint = Joint { path: Path::new("joint.onnx"), name: "joint.onnx", bytes: 0 };
        verify(joint, &[subject], &backends, 8, &Limits::default(), &Silent).unwrap()
    };
    let steps = found("QuantizeLinear", 0.1);
    assert!(steps.passed() && steps.notes[0].starts_with("task 'a' rounds"), "{steps:?}");
    for (op, moves) in [("QuantizeLinear", 0.001), ("Mul", 0.1)] {
        let fails = found(op, moves);
        assert!(!fails.passed() && fails.notes.is_empty(), "{fails:?}");
    }
}
