//! Steps of files of preprocessing, and refused files.

use super::*;

fn read(text: &str) -> Result<DataOptions> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.json");
    std::fs::write(&path, text).unwrap();
    let mut options = DataOptions::default();
    apply(&path, &mut options).map(|()| options)
}

#[test]
fn steps_of_pictures_are_understood() {
    let clip = r#"{"image_processor_type": "CLIPImageProcessor", "do_resize": true, "size": 224,
        "resample": 3, "do_center_crop": true, "crop_size": {"height": 224, "width": 200},
        "do_normalize": true, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.2],
        "do_convert_rgb": true}"#;
    let options = read(clip).unwrap();
    let steps = options.picture.unwrap();
    assert_eq!(steps.sizing, Sizing::Shortest(224));
    assert_eq!(steps.crop, Some(Resize { width: 200, height: 224 }));
    assert_eq!(steps.filter, Filter::Bicubic);
    assert_eq!(options.scale, Some(Scale(1.0 / 255.0)));
    assert_eq!((options.mean.len(), options.std[2]), (3, 0.2));

    let nested = r#"{"image_processor": {"image_processor_type": "ViTImageProcessorFast",
        "do_resize": true, "size": 32, "resample": 2, "do_normalize": false,
        "do_rescale": false}}"#;
    let options = read(nested).unwrap();
    let square = Resize { width: 32, height: 32 };
    assert_eq!(options.picture.unwrap().sizing, Sizing::Exact(square));
    assert_eq!((options.scale, options.mean.len()), (None, 0));

    let convnext = r#"{"image_processor_type": "ConvNextImageProcessor", "do_resize": true,
        "size": {"shortest_edge": 224}, "resample": 3, "crop_pct": 0.875,
        "do_normalize": false}"#;
    let steps = read(convnext).unwrap().picture.unwrap();
    assert_eq!(steps.sizing, Sizing::Shortest(256));
    assert_eq!(steps.crop, Some(Resize { width: 224, height: 224 }));
}

#[test]
fn steps_of_sounds_are_understood() {
    let text = r#"{"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": true,
        "feature_size": 1, "padding_side": "right", "padding_value": 0.0,
        "return_attention_mask": true, "sampling_rate": 16000}"#;
    let expected = SoundSteps { rate: Some(16000), normalise: true, masked: true, padding: 0.0 };
    assert_eq!(read(text).unwrap().sound, expected);
}

#[test]
fn what_would_change_values_unseen_is_refused() {
    let cases = [
        ("[]", "is no object"),
        ("{", "is not JSON"),
        (r#"{"do_resize": false, "do_normalize": false, "do_pad": true}"#, "`do_pad` = true"),
        (r#"{"do_normalize": false}"#, "does not say `do_resize`"),
        (r#"{"do_resize": true, "size": 8, "resample": 2, "do_normalize": false}"#, "unknown kind"),
        (
            r#"{"do_resize": true, "size": {"shortest_edge": 8, "longest_edge": 9}, "resample": 2,
                "do_normalize": false}"#,
            "longest_edge",
        ),
        (r#"{"do_resize": false, "do_normalize": true, "image_std": 1}"#, "no `image_mean`"),
        (r#"{"sampling_rate": 16000, "feature_size": 80, "do_normalize": false}"#, "features"),
        (
            r#"{"feature_extractor_type": "WhisperFeatureExtractor", "sampling_rate": 16000}"#,
            "of Whisper",
        ),
        (
            r#"{"do_resize": true, "size": {"height": 99999999, "width": 2}, "resample": 2,
                "do_normalize": false}"#,
            "`size` = 99999999",
        ),
    ];
    for (text, expected) in cases {
        let error = read(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains(expected), "{error}");
    }
}
