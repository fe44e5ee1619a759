//! Files of statistics.

use std::fs;

use ndarray::array;

use super::*;
use crate::progress::Silent;

fn moments(first: f32) -> Moments {
    let mut moments = Moments::new(2);
    moments.push(array![[first, 2.0], [3.0, 4.0]].view()).unwrap();
    moments
}

fn means() -> Option<Moments> {
    let mut means = Moments::new(2);
    means.push_means(array![[2.0, 3.0]].view(), None, 2.0).unwrap();
    Some(means)
}

fn statistics(first: f32) -> NetStatistics {
    let spread = |means| Spread::new(moments(first), means);
    let layers = [
        ("fc1", spread(None).into()),
        ("a.upper", spread(means()).into()),
        ("depthwise", LayerInputs::Channels(vec![spread(means()), spread(means())])),
        ("depthwise of tokens", LayerInputs::Channels(vec![spread(None)])),
        ("table", LayerInputs::Counts(array![1.0, 0.0, f64::from(first)])),
    ];
    let sensitivity = |metric| Sensitivity { channels: array![0.5, 2.0], metric, coherence: 1.5 };
    let sensitivities = [
        ("fc1", sensitivity(Some(array![[0.5, -1.0], [-1.0, 2.0]]))),
        ("depthwise", sensitivity(None)),
    ];
    NetStatistics {
        layers: layers.map(|(name, inputs)| (name.to_owned(), inputs)).into(),
        sensitivities: sensitivities.map(|(name, own)| (name.to_owned(), own)).into(),
    }
}

fn meta(sha256: &str) -> Meta {
    Meta {
        model_sha256: sha256.to_owned(),
        samples: 2,
        sources: vec!["x.npz".to_owned()],
        fingerprints: vec!["cd".to_owned()],
        batchnorm: None,
        sensitivity_samples: 2,
        without_sensitivity: None,
    }
}

fn saved(statistics: &NetStatistics) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gram");
    save(&path, statistics, &meta("ab"), &Silent).unwrap();
    fs::read(&path).unwrap()
}

#[test]
fn what_is_saved_is_loaded() {
    let bytes = saved(&statistics(1.0));
    assert_eq!(parse(&bytes).unwrap(), (statistics(1.0), meta("ab")));
    assert_eq!(saved(&statistics(1.0)), bytes);
}

#[test]
fn files_of_the_first_version_are_read() {
    let upper = moments(1.0).upper().to_owned().into_dyn();
    let header = r#"{"version":1,"meta":{"model_sha256":"ab","samples":2,"sources":["x.npz"]},"rows":{"fc1":2}}"#;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gram");
    let metadata = HashMap::from([(KEY.to_owned(), header.to_owned())]);
    let arrays = [("fc1.upper", Stored(upper.into()))];
    serialize_to_file(arrays, Some(metadata), &path).unwrap();
    let (loaded, found) = load(&path).unwrap();
    let wanted = Spread::new(moments(1.0), None).into();
    assert_eq!(loaded.layers, [("fc1".to_owned(), wanted)].into());
    assert!(loaded.sensitivities.is_empty());
    assert_eq!(found, Meta { sensitivity_samples: 0, fingerprints: Vec::new(), ..meta("ab") });
}

#[test]
fn shards_add_up() {
    let shard = |first| (statistics(first), meta("ab"));
    let (sum, added) = merge(vec![shard(1.0), shard(5.0)]).unwrap();
    assert_eq!((added.samples, added.sensitivity_samples, added.sources.len()), (4, 4, 2));
    assert!(sum.layers.values().all(|inputs| inputs.count() >= 4));
    let of = |statistics: &NetStatistics, coherence| match &statistics.layers["a.upper"] {
        LayerInputs::Rows(spread) => spread.at(coherence).unwrap().scaled(1.0).unwrap(),
        _ => unreachable!(),
    };
    for coherence in [1.0, 3.0] {
        let parts = of(&statistics(1.0), coherence) + of(&statistics(5.0), coherence);
        assert!((of(&sum, coherence) - parts / 2.0).iter().all(|d| d.abs() < 1e-12));
    }
    assert_eq!(sum.layers["table"], LayerInputs::Counts(array![2.0, 0.0, 6.0]));
    assert_eq!(sum.sensitivities, statistics(1.0).sensitivities);
}

#[test]
fn shards_of_different_models_do_not() {
    let other = merge(vec![(statistics(1.0), meta("ab")), (statistics(1.0), meta("cd"))]);
    assert_eq!(other.unwrap_err().kind(), ErrorKind::Calibration);
    let mut fewer = statistics(1.0);
    fewer.layers.remove("table");
    let other = merge(vec![(statistics(1.0), meta("ab")), (fewer, meta("ab"))]);
    assert_eq!(other.unwrap_err().kind(), ErrorKind::Calibration);
    assert!(merge(Vec::new()).is_err());
}

#[test]
fn a_sum_with_a_part_without_sensitivities_has_none() {
    let mut plain = statistics(1.0);
    plain.sensitivities.clear();
    let (sum, _) = merge(vec![(statistics(1.0), meta("ab")), (plain, meta("ab"))]).unwrap();
    assert!(sum.sensitivities.is_empty());
}

#[test]
fn damaged_files_are_errors() {
    let bytes = saved(&statistics(1.0));
    for damaged in [&bytes[..0], &bytes[..bytes.len() - 1], &bytes[8..], b"no statistics"] {
        assert_eq!(parse(damaged).unwrap_err().kind(), ErrorKind::Format);
    }
    // A number that is not finite.
    let mut poisoned = bytes;
    let end = poisoned.len();
    poisoned[end - 8..].copy_from_slice(&f64::NAN.to_le_bytes());
    assert!(parse(&poisoned).is_err());
}
