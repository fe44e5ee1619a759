use super::*;
use crate::calib::data::DataOptions;
use crate::ir::builder::GraphBuilder;
use crate::runtime::{self, RuntimeOptions};

const CHANNELS: usize = 4;
const CLASSES: usize = 3;

/// The sensitivities of a convolution over a plane of 5×5 and of the layer behind it.
fn measured(behind: fn(&mut GraphBuilder, ValueId) -> ValueId) -> (Model, Vec<Sensitivity>) {
    let mut b = GraphBuilder::new("net", 13);
    let x = b.input("x", "batch,2,5,5");
    let weight = b.weights("conv.w", &[CHANNELS, 2, 1, 1]);
    let conv = b.op("Conv", "conv", &[x, weight], []);
    let out = behind(&mut b, conv);
    let mut model = b.build(&[out]);
    crate::canon::infer_types(&mut model.graph).unwrap();
    let coupling = Coupling::of(&model.graph).unwrap();
    let backend = runtime::open(&RuntimeOptions::default()).unwrap();
    let session = backend.load(ModelSource::Graph(&model)).unwrap();
    let options = DataOptions::default();
    let data = Dataset::synthetic(session.inputs(), 512, 3, &options).unwrap();
    let sample = Sample {
        backend: backend.as_ref(),
        data: &data,
        samples: 512,
        batch: 64,
        seed: 0,
        together: true,
    };
    let found = sensitivities(&model, &coupling, sample).unwrap();
    (model, found.into_values().collect())
}

fn classes(b: &mut GraphBuilder, flat: ValueId, inputs: usize) -> ValueId {
    let weight = b.weights("fc.w", &[CLASSES, inputs]);
    b.op("Gemm", "fc", &[flat, weight], [("transB", 1.into())])
}

#[test]
fn samples_that_do_not_fill_a_fixed_batch_are_left_out() {
    let found = |batch: &str, samples: usize| {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", &format!("{batch},4"));
        let y = classes(&mut b, x, 4);
        let mut model = b.build(&[y]);
        crate::canon::infer_types(&mut model.graph).unwrap();
        let coupling = Coupling::of(&model.graph).unwrap();
        let backend = runtime::open(&RuntimeOptions::default()).unwrap();
        let session = backend.load(ModelSource::Graph(&model)).unwrap();
        let options = DataOptions::default();
        let data = Dataset::synthetic(session.inputs(), 20, 3, &options).unwrap().take(samples);
        let backend = backend.as_ref();
        let (data, together) = (&data, true);
        let sample = Sample { backend, data, samples: 20, batch: 7, seed: 0, together };
        sensitivities(&model, &coupling, sample)
    };
    let open = found("batch", 14).unwrap();
    assert_eq!(found("7", 20).unwrap(), open);
    assert!(found("batch", 20).unwrap() != open);
    let error = found("7", 6).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Calibration);
    assert!(error.to_string().contains("a batch of 7 takes more than 6 samples"), "{error}");
}

/// As nets for one sound, which leave an axis for a batch.
#[test]
fn a_net_that_reads_one_sample_of_a_batch_has_no_sensitivities() {
    let mut b = GraphBuilder::new("net", 13);
    let x = b.input("x", "batch,4");
    let [start, end] = [0, 1].map(|at| b.ints("at", &[at]));
    let first = b.op("Slice", "first", &[x, start, end, start], []);
    let sizes = b.ints("sizes", &[1, 4]);
    let row = b.op("Reshape", "row", &[first, sizes], []);
    let y = classes(&mut b, row, 4);
    let mut model = b.build(&[y]);
    crate::canon::infer_types(&mut model.graph).unwrap();
    let coupling = Coupling::of(&model.graph).unwrap();
    let layers: Vec<ValueId> = coupling.layers.iter().map(|l| l.layer.output).collect();
    let error = squared_gradients(&model, &coupling, &layers, true).err().unwrap();
    let message = "an output whose size does not depend on the number of samples";
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Unsupported, message));
}

#[test]
fn errors_before_a_mean_add_up_over_positions_and_channels() {
    let (model, found) = measured(|b, conv| {
        let pooled = b.op("GlobalAveragePool", "pool", &[conv], []);
        let flat = b.op("Flatten", "flat", &[pooled], []);
        classes(b, flat, CHANNELS)
    });
    assert_eq!((found[0].coherence, found[1].coherence), (25.0, 1.0));
    let weight = model.graph.initializer(model.graph.value_named("fc.w").unwrap()).unwrap();
    let weight = weight.to_f32().unwrap().mapv(f64::from);
    let weight = weight.into_dimensionality::<ndarray::Ix2>().unwrap();
    // Each of 25 positions has a 25th of the effect.
    let wanted = weight.t().dot(&weight) / 25.0;
    let metric = found[0].metric.as_ref().unwrap();
    let scale = wanted.diag().sum();
    assert!((metric - &wanted).iter().all(|d| d.abs() < 0.1 * scale), "{metric} {wanted}");
    assert_eq!(metric.diag(), found[0].channels);
    let off = found[1].metric.as_ref().unwrap() - Array2::<f64>::eye(CLASSES);
    assert!(off.iter().all(|d| d.abs() < 0.2), "{off}");
}

#[test]
fn errors_do_not_add_up_where_each_position_has_weights_of_its_own() {
    let (_, found) = measured(|b, conv| {
        let flat = b.op("Flatten", "flat", &[conv], []);
        classes(b, flat, CHANNELS * 25)
    });
    assert!((1.0..2.5).contains(&found[0].coherence), "{}", found[0].coherence);
}

#[test]
fn a_class_number_as_the_output_counts_as_its_scores() {
    let (_, wanted) = measured(|b, conv| {
        let flat = b.op("Flatten", "flat", &[conv], []);
        classes(b, flat, CHANNELS * 25)
    });
    let (_, found) = measured(|b, conv| {
        let flat = b.op("Flatten", "flat", &[conv], []);
        let scores = classes(b, flat, CHANNELS * 25);
        b.op("ArgMax", "best", &[scores], [("axis", 1.into())])
    });
    assert_eq!(found, wanted);
}

/// The convolution's channels are 4 × 25 numbers in another order.
fn turned(b: &mut GraphBuilder, map: ValueId) -> ValueId {
    b.op("Transpose", "turned", &[map], [("perm", [0, 2, 3, 1].into())])
}

fn codes(b: &mut GraphBuilder, name: &str, codes: &[i64]) -> ValueId {
    let codes = ndarray::arr1(codes).into_dyn();
    b.constant(name, crate::ir::Tensor::from_ints(DataType::U8, &codes).unwrap())
}

#[test]
fn codes_pass_gradients_except_where_they_are_cut_off() {
    let (_, wanted) = measured(|b, conv| {
        let (low, high) = (b.scalar("low", 0.0), b.scalar("high", 0.51));
        let cut = b.op("Clip", "cut", &[conv, low, high], []);
        let turned = turned(b, cut);
        let flat = b.op("Flatten", "flat", &[turned], []);
        classes(b, flat, CHANNELS * 25)
    });
    let (_, found) = measured(|b, conv| {
        let scales = ndarray::arr1(&[2e-3f32; CHANNELS]).into_dyn();
        let scales = b.constant("scales", crate::ir::Tensor::from_f32(&scales));
        let zeros = codes(b, "zeros", &[0; CHANNELS]);
        let coded = b.op("QuantizeLinear", "coded", &[conv, scales, zeros], []);
        let turned = turned(b, coded);
        let decoded =
            b.op("DequantizeLinear", "decoded", &[turned, scales, zeros], [("axis", 3.into())]);
        let flat = b.op("Flatten", "flat", &[decoded], []);
        classes(b, flat, CHANNELS * 25)
    });
    let channels = wanted[0].channels.iter().zip(&found[0].channels);
    for (wanted, found) in channels {
        assert!((found / wanted - 1.0).abs() < 1e-4 && *wanted > 0.0, "{found} for {wanted}");
    }
    let (_, uncut) = measured(|b, conv| {
        let turned = turned(b, conv);
        let flat = b.op("Flatten", "flat", &[turned], []);
        classes(b, flat, CHANNELS * 25)
    });
    assert!(uncut[0].channels.sum() > 1.2 * found[0].channels.sum());
}

#[test]
fn codes_of_a_range_that_follows_the_values_pass_all_gradients() {
    let net = |quantises: bool| {
        let behind: fn(&mut GraphBuilder, ValueId) -> ValueId = match quantises {
            false => |b, conv| {
                let flat = b.op("Flatten", "flat", &[conv], []);
                classes(b, flat, CHANNELS * 25)
            },
            true => |b, conv| {
                let coded = b.op("DynamicQuantizeLinear", "coded", &[conv], []);
                let graph = b.graph();
                let computed = crate::ir::ValueKind::Computed(graph.producer(coded).unwrap());
                let [scale, zero] =
                    ["scale", "zero"].map(|name| graph.add_value(name, computed.clone(), None));
                let id = graph.producer(coded).unwrap();
                graph.edit_node(id, |node| node.outputs.extend([Some(scale), Some(zero)]));
                let decoded = b.op("DequantizeLinear", "decoded", &[coded, scale, zero], []);
                let flat = b.op("Flatten", "flat", &[decoded], []);
                classes(b, flat, CHANNELS * 25)
            },
        };
        measured(behind).1
    };
    assert_eq!(net(true), net(false));
}
