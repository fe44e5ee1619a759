use super::*;
use crate::compare::{Against, Latency};
use crate::error::Hint;
use crate::mtz::options::{Biases, Method, Passes, Unit};
use crate::verify::{Deviation, OutputVerification, RuntimeDeviation, TaskVerification};

fn task(name: &str) -> TaskRecord {
    TaskRecord {
        name: name.to_owned(),
        path: format!("models/{name}.onnx"),
        sha256: "00".repeat(32),
        bytes: 1_067_000,
        parameters: 266_610,
        data: DataRecord {
            source: None,
            samples: 2048,
            available: 2048,
            labels: false,
            notes: Vec::new(),
        },
        statistics: None,
        without_sensitivity: None,
    }
}

fn site(name: &str, shared: usize, reason: Option<&str>) -> SiteRecord {
    SiteRecord {
        tasks: vec![0, 1],
        loss: 0.0,
        gains: Vec::new(),
        bits: Vec::new(),
        ranks: Vec::new(),
        pair_costs: Vec::new(),
        layers: vec![name.to_owned(); 2],
        neurons: vec![300, 300],
        shared,
        shared_inputs: 784,
        inputs: vec![784, 784],
        cost: 0.0123,
        relative_errors: vec![0.011, 0.02],
        rows: vec![2048, 2048],
        seconds: (0.25, 0.5),
        reason: reason.map(str::to_owned),
        hint: None,
    }
}

fn checked(name: &str) -> TaskVerification {
    let original = Deviation { max: 1.5, mean: 0.25, relative: 0.05 };
    let runtimes = vec![RuntimeDeviation {
        runtime: "tract".to_owned(),
        samples: 256,
        original,
        net: Some(Deviation::default()),
        first_runtime: None,
    }];
    TaskVerification {
        name: name.to_owned(),
        samples: 256,
        agreement: Some(0.984_375),
        error_before: Some(0.015_625),
        error_after: None,
        outputs: vec![OutputVerification { name: "logits".to_owned(), reported: None, runtimes }],
    }
}

fn picture() -> Picture {
    let layer = |row: usize, tasks: &[usize], name: &str| LayerBox {
        row,
        tasks: tasks.to_vec(),
        layers: vec![name.to_owned(); tasks.len()],
        parameters: 235_500,
        neurons: 300,
        inputs: 784,
        cost: (tasks.len() > 1).then_some(0.0123),
        errors: if tasks.len() > 1 { vec![0.011, 0.02] } else { Vec::new() },
    };
    let boxes = vec![layer(0, &[0, 1], "fc1"), layer(1, &[0], "fc<3>"), layer(1, &[1], "fc<3>")];
    let link = |to: usize| Link { from: 0, to, tasks: vec![to - 1] };
    Picture { boxes, links: vec![link(1), link(2)] }
}

fn compared() -> Comparison {
    let latency = Latency {
        runtime: "tract 0.0.0".to_owned(),
        rounds: 200,
        joint: 0.000_75,
        originals: vec![0.000_5, 0.000_6],
        ratio: 0.69,
        slower: false,
    };
    Comparison {
        bytes: Against::new(1_075_000, 2_134_000),
        parameters: Against::new(267_620, 533_220),
        nodes: Against::new(7, 10),
        multiply_adds: Some(Against::new(267_200, 532_400)),
        latency: Some(latency),
        memory: None,
        unmeasured: vec!["something".to_owned()],
    }
}

fn report() -> Report {
    let sizes = Sizes { originals: vec![266_610; 2], shared: 265_600, specific: vec![1010; 2] };
    let tasks = vec![task("zebra"), task("<ant>")];
    let joint = JointRecord {
        written: true,
        sha256: "a1".repeat(32),
        path: "joint.onnx".to_owned(),
        bytes: 1_075_000,
        parameters: Parameters::new(&sizes, &["zebra", "<ant>"]),
        form: "heads".to_owned(),
        inputs: "shared".to_owned(),
    };
    Report {
        schema: SCHEMA,
        tool: "onnx-zip 0.0.0".to_owned(),
        compression: Compression::new(&tasks, &joint),
        tasks,
        joint,
        settings: Settings {
            method: Method::Refit,
            matcher: "optimal".to_owned(),
            metric: "hessian".to_owned(),
            passes: Passes::PerLayer,
            share: "1.0".to_owned(),
            unit: Unit::Layer,
            biases: Biases::PerTask,
            keep_shared: vec!["fc2=50".to_owned()],
            own_weights: Vec::new(),
            share_outputs: false,
            alpha: vec![0.5, 0.5],
            damping: 1e-4,
            max_rows: 1 << 20,
            batch: 128,
            seed: 0,
            options: IndexMap::from([
                ("seed".to_owned(), vec!["0".to_owned()]),
                ("corrections".to_owned(), vec!["low-rank".to_owned()]),
                ("preprocess".to_owned(), vec!["secret/size.json".to_owned()]),
            ]),
        },
        runtime: "tract 0.0.0".to_owned(),
        synthetic_data: true,
        layers: vec![site("fc1", 300, None), site("fc3", 0, Some("the model's outputs"))],
        structure: Structure::default(),
        picture: picture(),
        search: Vec::new(),
        seconds: vec![StageTime { stage: "zip".to_owned(), seconds: 1.25 }],
        retraining: None,
        verification: Some(Verification {
            joint: "joint.onnx".to_owned(),
            runtimes: vec!["tract 0.0.0".to_owned()],
            unable: Vec::new(),
            notes: Vec::new(),
            tasks: vec![checked("zebra"), checked("<ant>")],
            failures: Vec::new(),
        }),
        comparison: Some(compared()),
        warnings: vec!["random numbers".to_owned()],
    }
}

#[test]
fn json_holds_everything_in_order() {
    let json = serde_json::to_string(&report()).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report());
    // Readers of the JSON rely on the tasks' order.
    assert!(json.contains(r#""specific":{"zebra":1010,"<ant>":1010}"#), "{json}");
}

#[test]
fn compression_is_told_against_all_and_the_smallest() {
    let gain = report().compression;
    assert!((gain.bytes_of_all - 1_075_000.0 / 2_134_000.0).abs() < 1e-12);
    assert!((gain.parameters_of_smallest - 267_620.0 / 266_610.0).abs() < 1e-12);
}

#[test]
fn the_text_fits_a_screen() {
    let text = text(&report(), false);
    insta::assert_snapshot!(text);
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

#[test]
fn many_layers_are_shown_on_request() {
    let mut report = report();
    report.layers = vec![site("conv", 5, None); 40];
    assert!(text(&report, false).contains("… and 24 more layers; -v shows them all"));
    assert_eq!(text(&report, true).matches("conv").count(), 40);
}

#[test]
fn failures_are_told() {
    let mut report = report();
    let checked = report.verification.as_mut().unwrap();
    checked.failures.push("task 'zebra': output 'y' is missing".to_owned());
    for view in [text(&report, false), html(&report)] {
        assert!(view.contains("output 'y' is missing"), "{view}");
    }
}

#[test]
fn what_is_worse_than_the_originals_is_told() {
    assert_eq!(complaint(&compared()), None);
    let mut worse = compared();
    worse.bytes = Against::new(2_134_000, 2_134_000);
    let larger = "no smaller than its originals together (2.04 MiB against 2.04 MiB)";
    assert_eq!(complaint(&worse).unwrap(), format!("the joint model is {larger}"));
    worse.latency = worse.latency.map(|l| Latency { joint: 0.002, slower: true, ..l });
    let slower = "slower than its originals together (2.00 ms against 1.10 ms)";
    assert_eq!(complaint(&worse).unwrap(), format!("the joint model is {larger} and {slower}"));
}

#[test]
fn the_page_is_complete_and_safe() {
    let page = html(&report());
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"));
    assert!(page.contains("&lt;ant&gt;") && !page.contains("<ant>"));
    for foreign in ["<script", "http://", "https://", "src="] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(page.contains("width:100.0%") && page.contains("multiply-adds"));
    let graph = page.split("<svg").nth(1).unwrap();
    assert_eq!(graph.matches("<rect").count(), 3);
    let hover = "fc1\nshared by zebra and &lt;ant&gt;\n300 neurons, 784 inputs\n235,500 parameters\n\
                 predicted cost 0.0123\nerror 1.1 % | 2.0 %";
    assert!(graph.contains(&format!("<title>{hover}</title>")), "{graph}");
    assert!(
        graph.contains("<rect class=\"layer t1\"")
            && graph.contains("<rect class=\"layer shared\"")
    );
    assert!(graph.contains("weights of zebra only") && graph.contains("fc&lt;3&gt;"));
}

#[test]
fn a_model_card_has_metadata_and_text_that_stays_text() {
    let mut report = report();
    report.tasks[0].name = "a|b <script>".to_owned();
    let card = card(&report);
    assert!(card.starts_with("---\nlibrary_name: onnx\ntags:\n- onnx\n"), "{card}");
    assert_eq!(card.lines().filter(|line| *line == "---").count(), 2);
    assert!(card.contains("a\\|b \\<script\\>") && !card.contains("<script>"), "{card}");
    assert!(card.contains("| **joint** |"), "{card}");
    for part in
        ["50.4 %", "| fc1 | 300 | 300 |", "multiply-adds", "InferenceSession(\"joint.onnx\")"]
    {
        assert!(card.contains(part), "{part} is missing in\n{card}");
    }
}

#[test]
fn names_turn_no_report_around() {
    let mut report = report();
    report.tasks[0].name = "a\u{202e}b\u{2066}*c*~&lt;".to_owned();
    report.joint.path = "j\u{202e}.onnx".to_owned();
    let (page, card) = (html(&report), card(&report));
    for text in [&page, &card] {
        assert!(!text.contains(['\u{202e}', '\u{2066}']), "{text}");
    }
    assert!(card.contains("a b \\*c\\*\\~\\&lt;") && card.contains("(\"j.onnx\")"), "{card}");
}

#[test]
fn given_options_are_in_every_report_and_paths_are_in_no_card() {
    let (page, card) = (html(&report()), card(&report()));
    assert!(page.contains("<th>--corrections</th><td><code>low-rank</code></td>"), "{page}");
    assert!(card.contains("--corrections low-rank") && card.contains("--preprocess size.json"));
    assert!(page.contains("secret/size.json") && !card.contains("secret"), "{card}");
    assert!(!page.contains("--seed") && !card.contains("--seed"));
}

#[test]
fn what_can_be_done_about_a_layer_is_in_text_and_json() {
    let hint = Some(Hint::from("allow 300 MiB more with ").option("memory"));
    let large = SiteRecord { hint, ..site("fc1", 0, Some("the work would take 9 GiB")) };
    let said = "the work would take 9 GiB; allow 300 MiB more with --memory";
    assert_eq!(large.reason_with_hint().as_deref(), Some(said));
    let json = serde_json::to_string(&large).unwrap();
    assert!(json.contains("allow 300 MiB more with --memory"), "{json}");
    assert_eq!(serde_json::from_str::<SiteRecord>(&json).unwrap(), large);
}
