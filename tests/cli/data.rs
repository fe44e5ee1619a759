//! The same merge from samples in every format: `fixtures/data/formats`, written by `fixtures/formats.py`.

use std::fs;

use crate::tool::{Tool, fashion, fixture, mnist, stdout};

fn samples(name: &str) -> String {
    fixture(&format!("data/formats/{name}"))
}

/// The bytes of the joint model that is merged with these samples.
fn merged(tool: &Tool, data: &str, more: &[&str]) -> Vec<u8> {
    let (a, b, data) = (mnist(), fashion(), samples(data));
    let args = ["merge", &a, &b, "-o", "joint.onnx", "--data", &data, "--samples", "24"];
    let quick = ["--scale", "1/255", "--share", "1", "--runtime", "tract", "--no-verify"];
    tool.run(0, &[&args[..], &quick, &["--no-compare", "-q"], more].concat());
    fs::read(tool.path("joint.onnx")).unwrap()
}

#[test]
fn every_format_gives_the_same_joint_model() {
    let tool = Tool::new();
    let expected = merged(&tool, "digits.npz", &[]);
    let hub: &[&str] = &["--part", "train"];
    let cases: [(&str, &[&str]); 9] = [
        ("digits.npy", &[]),
        ("digits.safetensors", &[]),
        ("digits", &[]),
        ("digits.csv", &[]),
        ("bare.tsv", &["--column", "labels=labels"]),
        ("shards", &[]),
        ("hub", hub),
        ("hub", &[hub, &["--column", "labels=word"]].concat()),
        ("flat.parquet", &[]),
    ];
    for (data, more) in cases {
        assert!(merged(&tool, data, more) == expected, "{data}");
    }
}

#[test]
fn errors_are_measured_with_the_labels_of_every_format() {
    let tool = Tool::new();
    merged(&tool, "digits.npz", &[]);
    let (a, b) = (mnist(), fashion());
    let verified = |data: &str, more: &[&str]| {
        let data = samples(data);
        let args = ["verify", "joint.onnx", &a, &b, "--data", &data, "--scale", "1/255", "--json"];
        let args = [&args[..], &["--runtime", "tract", "--tolerance", "1e9"], more].concat();
        let found: serde_json::Value = serde_json::from_str(&stdout(&tool.run(0, &args))).unwrap();
        assert!(found["tasks"][1]["error_before"].as_f64() > Some(0.5), "{found}");
        found["tasks"].clone()
    };
    let expected = verified("digits.npz", &[]);
    for (data, more) in [
        ("digits.csv", vec![]),
        ("shards", vec![]),
        ("hub", vec!["--part", "train"]),
        ("digits", vec![]),
    ] {
        assert_eq!(verified(data, &more), expected, "{data}");
    }
}

#[test]
fn a_preprocessing_takes_the_place_of_options() {
    let tool = Tool::new();
    let expected = merged(&tool, "digits.npz", &["--mean", "0.5", "--std", "0.25"]);
    let steps = r#"{"image_processor_type": "ViTImageProcessor", "do_resize": true, "resample": 2,
        "size": {"height": 28, "width": 28}, "do_normalize": true, "image_mean": 0.5,
        "image_std": 0.25, "do_convert_rgb": true}"#;
    tool.write("preprocessor_config.json", steps.as_bytes());
    let file = ["--preprocess", "preprocessor_config.json"];
    assert!(merged(&tool, "digits", &file) == expected);
    // A plan in another folder finds the file, too.
    fs::create_dir(tool.path("plans")).unwrap();
    merged(&tool, "digits", &[&file[..], &["--save-plan", "plans/p.toml"]].concat());
    let plan = fs::read_to_string(tool.path("plans/p.toml")).unwrap();
    assert!(plan.contains("../preprocessor_config.json"), "{plan}");
    tool.run(0, &["merge", "--plan", "plans/p.toml", "-o", "joint.onnx", "--no-compare", "-q"]);
    assert!(fs::read(tool.path("joint.onnx")).unwrap() == expected);
    let (a, b, data) = (mnist(), fashion(), samples("digits"));
    let refused = |more: &[&str]| {
        let args = ["merge", &a, &b, "-o", "new.onnx", "--data", &data, "--runtime", "tract"];
        tool.refused(&[&args[..], more].concat())
    };
    tool.write("pad.json", br#"{"do_resize": false, "do_normalize": false, "do_pad": true}"#);
    let error = refused(&["--preprocess", "pad.json"]);
    assert!(error.contains("pad.json has `do_pad` = true, which is not understood"), "{error}");
    let thrice = [&file[..], &file, &file].concat();
    assert!(
        refused(&thrice)
            .contains("preprocessing was given 3 times for 2 models; give --preprocess once")
    );
    assert!(refused(&["--preprocess", "gone.json"]).contains("gone.json cannot be read"));
}
