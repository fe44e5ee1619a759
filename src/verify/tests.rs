mod canonical;

use ndarray::ArrayD;

use super::*;
use crate::calib::data::DataOptions;
use crate::ir::{DataType, Dim, TensorType};
use crate::progress::Silent;
use crate::runtime::{HostArray, Port, Session};

/// The behaviour of a runtime with a net: whether it loads and runs, and its outputs.
#[derive(Debug, Clone, Copy)]
enum Does {
    Load(f32),
    FailToLoad,
    FailToRun,
}

use Does::{FailToLoad, FailToRun, Load};

/// A runtime with prescribed results.
#[derive(Clone, Copy)]
struct Fake {
    name: &'static str,
    original: Does,
    net: Does,
    joint: Does,
}

struct FakeSession {
    does: Does,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

fn port(name: &str) -> Port {
    let shape = Some(vec![Dim::Symbol("n".to_owned()), Dim::Known(2)]);
    Port { name: name.to_owned(), dtype: DataType::F32, shape }
}

fn broken() -> Error {
    Error::new(ErrorKind::Backend, "it is broken")
}

impl Backend for Fake {
    fn name(&self) -> &'static str {
        self.name
    }

    fn describe(&self) -> String {
        format!("{} 1.0", self.name)
    }

    fn load(&self, source: ModelSource<'_>) -> Result<Box<dyn Session>> {
        let (does, output) = match source {
            ModelSource::Bytes(b"original") => (self.original, "y"),
            ModelSource::Bytes(_) | ModelSource::Graph(_) => (self.net, "y"),
            ModelSource::File(_) => (self.joint, "a/y"),
        };
        let (inputs, outputs) = (vec![port("x")], vec![port(output)]);
        match does {
            FailToLoad => Err(broken()),
            _ => Ok(Box::new(FakeSession { does, inputs, outputs })),
        }
    }
}

impl Session for FakeSession {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn run(&mut self, inputs: &[(&str, &HostArray)]) -> Result<Vec<HostArray>> {
        let Load(value) = self.does else { return Err(broken()) };
        let shape = inputs[0].1.shape().to_vec();
        Ok(vec![ArrayD::from_elem(shape, value).into()])
    }
}

/// A runtime in which all models compute the same.
const GOOD: Fake = Fake { name: "good", original: Load(1.0), net: Load(1.0), joint: Load(1.0) };

/// Another one.
const OTHER: Fake = Fake { name: "other", ..GOOD };

fn checked(backends: &[Fake], reported: Option<f64>) -> Result<Verification> {
    checked_on(8, backends, (reported, false))
}

/// `reported` is what the file reports, `is_untouched` whether nothing was merged.
fn checked_on(
    samples: usize,
    backends: &[Fake],
    (reported, is_untouched): (Option<f64>, bool),
) -> Result<Verification> {
    let data = Dataset::synthetic(&[port("x")], samples, 0, &DataOptions::default())?;
    let reported = reported.map(|deviation| BTreeMap::from([("y".to_owned(), deviation)]));
    let subject = Subject {
        task: "a",
        original: ModelSource::Bytes(b"original"),
        net: Some(ModelSource::Bytes(b"net")),
        reading: Reading::default(),
        data: &data,
        reported: reported.as_ref(),
        is_untouched,
    };
    let backends: Vec<Arc<dyn Backend>> =
        backends.iter().map(|b| Arc::new(*b) as Arc<dyn Backend>).collect();
    let joint = Joint { path: Path::new("/tmp/hidden/joint.onnx"), name: "joint.onnx", bytes: 0 };
    verify(joint, &[subject], &backends, 4, &Limits::default(), &Silent)
}

/// Failures, and runtimes that were not compared.
fn verdict(backends: &[Fake]) -> (Vec<String>, Vec<String>) {
    let report = checked(backends, None).unwrap();
    (report.failures, report.unable)
}

#[test]
fn runtimes_that_agree_have_nothing_to_say() {
    let report = checked(&[GOOD, OTHER], None).unwrap();
    assert!(report.passed() && report.unable.is_empty(), "{report:?}");
    assert_eq!(report.runtimes, ["good 1.0", "other 1.0"]);
    assert_eq!((report.joint.as_str(), report.tasks[0].samples), ("joint.onnx", 8));
}

#[test]
fn further_runtimes_confirm_the_first_samples() {
    let report = checked_on(100, &[GOOD, OTHER], (None, false)).unwrap();
    let runtimes = &report.tasks[0].outputs[0].runtimes;
    assert_eq!(runtimes.iter().map(|r| r.samples).collect::<Vec<_>>(), [100, 64]);
    assert_eq!(report.tasks[0].samples, 100);
    assert!(report.passed() && report.unable.is_empty(), "{report:?}");
    let wrong = Fake { joint: Load(2.0), ..OTHER };
    let report = checked_on(100, &[GOOD, wrong], (None, false)).unwrap();
    assert!(!report.passed(), "{report:?}");
}

#[test]
fn a_net_of_which_nothing_was_merged_computes_what_its_original_does() {
    // The net and the joint model agree, so only the original tells.
    let changed = Fake { original: Load(2.0), ..GOOD };
    let failures = |is_untouched| checked_on(8, &[changed], (None, is_untouched)).unwrap().failures;
    assert!(failures(false).is_empty());
    assert!(failures(true)[0].contains("nothing of it was merged"), "{:?}", failures(true));
}

#[test]
fn the_first_that_runs_the_originals_judges() {
    for original in [FailToLoad, FailToRun] {
        // It would refuse the joint model, too, but that adds no failure.
        let unable = Fake { original, joint: FailToLoad, ..OTHER };
        let (failures, notes) = verdict(&[unable, GOOD]);
        assert!(failures.is_empty(), "{failures:?}");
        assert!(notes.len() == 1 && notes[0].starts_with("other 1.0: a: "), "{notes:?}");
        for joint in [FailToLoad, FailToRun] {
            let judge = Fake { joint, ..GOOD };
            assert_eq!(verdict(&[unable, judge]).0.len(), 1);
            let late = Fake { original: FailToRun, ..OTHER };
            assert_eq!(verdict(&[late, judge]).0.len(), 1);
        }
        let error = checked(&[unable], None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Backend);
    }
}

#[test]
fn the_judge_must_run_what_was_merged_and_others_need_not() {
    for does in [FailToLoad, FailToRun] {
        for broken in [Fake { joint: does, ..GOOD }, Fake { net: does, ..GOOD }] {
            let (failures, notes) = verdict(&[broken, OTHER]);
            assert!(failures.len() == 1 && notes.is_empty(), "{failures:?} {notes:?}");
            let says_which = |said: &String| {
                said.contains("joint.onnx: it is broken")
                    || said.contains("the merged net of 'a': it is broken")
            };
            assert!(failures.iter().all(says_which), "{failures:?}");
            let (failures, notes) = verdict(&[OTHER, broken]);
            assert!(failures.is_empty() && notes.len() == 1, "{failures:?} {notes:?}");
            assert!(notes.iter().all(says_which), "{notes:?}");
        }
    }
}

#[test]
fn runtimes_that_disagree_fail_unless_they_do_so_on_the_originals() {
    let wrong = Fake { joint: Load(2.0), ..OTHER };
    let (failures, _) = verdict(&[GOOD, wrong]);
    assert!(failures.iter().any(|f| f.contains("differs from the first runtime")), "{failures:?}");
    let rounding = Fake { net: Load(2.0), joint: Load(2.0), ..OTHER };
    let (failures, notes) = verdict(&[GOOD, rounding]);
    assert!(failures.is_empty() && notes.len() == 1, "{failures:?} {notes:?}");
    let strange = Fake { original: Load(3.0), net: Load(4.0), joint: Load(5.0), ..OTHER };
    let (failures, notes) = verdict(&[GOOD, strange]);
    assert!(failures.is_empty(), "{failures:?}");
    assert!(notes.len() == 1 && notes[0].contains("the original itself differs"), "{notes:?}");
}

#[test]
fn a_file_that_is_further_off_than_it_says_fails() {
    let off = |by: f32| Fake { net: Load(1.0 + by), joint: Load(1.0 + by), ..GOOD };
    for (by, reported, passes) in [
        (0.38, None, true),
        (0.38, Some(0.001), false),
        (0.38, Some(0.3), true),
        (0.02, Some(0.001), true),
        (f32::NAN, Some(0.3), false),
    ] {
        let report = checked(&[off(by)], reported).unwrap();
        assert_eq!(report.passed(), passes, "{by} {reported:?}: {:?}", report.failures);
        assert_eq!(report.tasks[0].outputs[0].reported, reported);
    }
    let report = checked(&[off(0.38)], Some(0.001)).unwrap();
    let said = "task 'a', output 'y': differs from the original by 38.0 %, and by 0.1 % when it was \
                merged";
    assert_eq!(report.failures, [said]);
}

#[test]
fn the_hidden_place_of_the_file_is_not_told() {
    struct Telling;
    impl Backend for Telling {
        fn name(&self) -> &'static str {
            "telling"
        }
        fn describe(&self) -> String {
            "telling".to_owned()
        }
        fn load(&self, source: ModelSource<'_>) -> Result<Box<dyn Session>> {
            match source {
                ModelSource::File(path) => {
                    let message = format!("cannot load {}", path.display());
                    Err(Error::new(ErrorKind::Backend, message))
                }
                bytes => GOOD.load(bytes),
            }
        }
    }
    let data = Dataset::synthetic(&[port("x")], 8, 0, &DataOptions::default()).unwrap();
    let original = ModelSource::Bytes(b"original");
    let reading = Reading::default();
    let subject = Subject {
        task: "a",
        original,
        net: None,
        reading,
        data: &data,
        reported: None,
        is_untouched: false,
    };
    let joint = Joint { path: Path::new("/tmp/hidden/joint.onnx"), name: "joint.onnx", bytes: 0 };
    let backends: [Arc<dyn Backend>; 1] = [Arc::new(Telling)];
    let report = verify(joint, &[subject], &backends, 4, &Limits::default(), &Silent).unwrap();
    let said = ["telling cannot run it: joint.onnx: cannot load joint.onnx"];
    assert_eq!(report.failures, said);
}

#[test]
fn nets_that_round_values_may_differ_by_a_step() {
    let net = |op: &str| {
        let mut graph = Graph::new("net");
        let x = graph.add_input("x", TensorType { dtype: DataType::F32, shape: None });
        let y = graph.add_op(op, "y", &[x], []);
        graph.outputs.push(y);
        graph
    };
    let [plain, rounding] = ["Relu", "QuantizeLinear"].map(net);
    assert_eq!(Limits::of_nets([&plain, &plain]), Limits::default());
    assert!(Limits::of_nets([&plain, &rounding]).tolerance > Limits::default().tolerance);
}

#[test]
fn nets_of_half_precision_may_differ_by_its_rounding() {
    let net = |dtype| {
        let mut graph = Graph::new("net");
        let x = graph.add_input("x", TensorType { dtype: DataType::F32, shape: None });
        let y = graph.add_op("Cast", "y", &[x], []);
        graph.set_type(y, Some(TensorType { dtype, shape: None }));
        graph
    };
    let tolerance = |dtype| Limits::of_nets([&net(DataType::F32), &net(dtype)]).tolerance;
    assert_eq!(Limits::of_nets([&net(DataType::F32)]), Limits::default());
    assert!(tolerance(DataType::F16) > Limits::default().tolerance);
    assert!(tolerance(DataType::BF16) > tolerance(DataType::F16));
}
