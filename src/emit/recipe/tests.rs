use super::assemble::Assembly;
use super::format::{self, BlockRecipe, Recipe, TaskRecipe};
use super::*;
use crate::align::TaskId;
use crate::canon::{CanonOptions, canonicalise};
use crate::emit::{EmitOptions, Form, emit};
use crate::ir::builder::GraphBuilder;
use crate::ir::{Codes, DataType, Graph, Tensor};
use crate::mtz::joint::Task;
use crate::onnx;

/// A net of two layers.
fn net() -> Model {
    let mut b = GraphBuilder::new("net", 13);
    let x = b.input("x", "batch,8");
    let (w1, w2) = (b.weights("w1", &[8, 20]), b.weights("w2", &[20, 8]));
    let h = b.op("MatMul", "h", &[x, w1], []);
    let r = b.op("Relu", "r", &[h], []);
    let y = b.op("MatMul", "y", &[r, w2], []);
    b.build(&[y])
}

fn joint(names: &[&str]) -> JointModel {
    let task = |name: &&str| {
        Task::new(*name, canonicalise(net(), &CanonOptions::default()).unwrap()).unwrap()
    };
    JointModel::new(names.iter().map(task).collect())
}

fn with_recipe(recipe: Recipe, graph: Graph) -> Model {
    let metadata = [(RECIPE_KEY.to_owned(), format::encode(recipe).unwrap())].into();
    Model { name: "joint".into(), metadata, graph, ..Model::default() }
}

/// The answer to a recipe that holds a net as it is.
fn refusal(net: &Model) -> Error {
    let graph = onnx::encode_net(net).unwrap();
    let task = TaskRecipe { name: "a".into(), graph, ..TaskRecipe::default() };
    let recipe = Recipe { tasks: vec![task], lists: Vec::new() };
    restore(&with_recipe(recipe, Graph::new("joint"))).unwrap_err()
}

#[test]
fn nets_inside_a_recipe_are_checked() {
    let mut b = GraphBuilder::new("net", 13);
    let x = b.input("x", "n,4");
    let (weight, bias) = (b.scalar("w", 1.0), b.weights("bias", &[3]));
    let y = b.op("Gemm", "y", &[x, weight, bias], [("transB", 1.into())]);
    let error = refusal(&b.build(&[y]));
    assert!(error.kind() == ErrorKind::Format && error.to_string().contains("not a matrix"));

    let mut b = GraphBuilder::new("net", 13);
    let x = b.input("x", "n,2,4611686018427387904");
    let y = b.op("Flatten", "y", &[x], []);
    assert_eq!(refusal(&b.build(&[y])).kind(), ErrorKind::Memory);

    // Sizes that only types of computed values tell.
    let mut b = GraphBuilder::new("net", 13);
    let mut value = b.input("x", "n,4");
    for _ in 0..40 {
        value = b.op("Concat", "y", &[value, value], [("axis", 1.into())]);
    }
    assert_eq!(refusal(&b.build(&[value])).kind(), ErrorKind::Memory);
}

#[test]
fn a_recipe_has_some_tasks() {
    let empty = with_recipe(Recipe::default(), Graph::new("joint"));
    assert_eq!(restore(&empty).unwrap_err().kind(), ErrorKind::Format);
    let one = joint(&["a"]);
    for (form, fits) in [(Form::Heads, true), (Form::Masked, false), (Form::Switch, false)] {
        let options = EmitOptions { form, ..EmitOptions::default() };
        assert_eq!(emit(&one, &options).is_ok(), fits, "{form:?}");
    }
}

#[test]
fn numbers_of_fused_layers_leave_room_for_more() {
    let mut joint = joint(&["a", "b"]);
    joint.fuse(&[0, 1].map(|task| TaskId(task).layer(crate::couple::LayerId(0))));
    let mut model = emit(&joint, &EmitOptions::default()).unwrap();
    assert!(restore(&model).is_ok());
    let mut recipe = format::decode(&model.metadata[RECIPE_KEY]).unwrap();
    for task in &mut recipe.tasks {
        task.fused = indices::write([Some(u32::MAX as usize), None]);
    }
    model.metadata.insert(RECIPE_KEY.to_owned(), format::encode(recipe).unwrap());
    assert_eq!(restore(&model).unwrap_err().kind(), ErrorKind::Format);
}

/// A net that reads `count` weights, each put together from the initializer `w`, `times` over.
fn repeated(count: usize, dims: &str, times: usize) -> TaskRecipe {
    let mut b = GraphBuilder::new("net", 13);
    let mut value = b.input("x", dims);
    let names: Vec<String> = (0..count).map(|i| format!("w{i}")).collect();
    for name in &names {
        let weight = b.input(name, dims);
        value = b.op("Add", "y", &[value, weight], []);
    }
    let block = || BlockRecipe { from: "w".into(), parts: vec![(0, 0)], ..BlockRecipe::default() };
    let weights = (0..count).map(|_| (0..times).map(|_| block()).collect()).collect();
    let graph = onnx::encode_net(&b.build(&[value])).unwrap();
    TaskRecipe { name: "a".into(), graph, weights, ..TaskRecipe::default() }
}

#[test]
fn all_weights_together_have_bounds() {
    let mut graph = Graph::new("joint");
    graph.add_initializer("w", Tensor::from_f32(&ndarray::Array1::zeros(1000).into_dyn()));
    let lists = [(0..1000).collect()];
    let fits = |count: usize, dims: &str, times: usize| {
        Assembly::new(&graph, &lists, 2).net(&repeated(count, dims, times)).is_ok()
    };
    assert!(fits(20, "1000", 1) && fits(1, "1000", 20));
    assert!(!fits(100, "1000", 1), "memory");
    assert!(!fits(1, "1000", 100), "time");
    assert!(!fits(1, "1000000", 1) && !fits(1, "0,1152921504606846976", 1));
}

#[test]
fn blocks_at_places_of_an_initializer_are_checked() {
    let mut graph = Graph::new("joint");
    let numbers: Vec<f32> = (0..8).map(|n| n as f32).collect();
    let matrix = ndarray::ArrayD::from_shape_vec(vec![2, 4], numbers).unwrap();
    graph.add_initializer("w", Tensor::from_f32(&matrix));
    let mut b = GraphBuilder::new("net", 13);
    let (x, w) = (b.input("x", "2,3"), b.input("own", "2,3"));
    let y = b.op("Add", "y", &[x, w], []);
    let net = onnx::encode_net(&b.build(&[y])).unwrap();
    let own = |within: (usize, usize), lists: &[Vec<usize>]| {
        let blocks =
            vec![BlockRecipe { from: "w".into(), within: Some(within), ..BlockRecipe::default() }];
        let weights = vec![blocks];
        let name = "a".to_owned();
        let task = TaskRecipe { name, graph: net.clone(), weights, ..TaskRecipe::default() };
        let (net, _) = Assembly::new(&graph, lists, 2).net(&task).ok()?;
        let value = net.graph.value_named("own")?;
        Some(net.graph.initializer(value)?.to_f32().ok()?.into_raw_vec_and_offset().0)
    };
    let lists = [vec![3, 0, 2], vec![0, 1, 4], vec![0, 1], vec![0; 1 << 20]];
    assert_eq!(own((1, 0), &lists).unwrap(), [3.0, 0.0, 2.0, 7.0, 4.0, 6.0]);
    for other in [(1, 1), (1, 2), (1, 3), (0, 2), (0, 0), (2, 0), (1, 4)] {
        assert!(own(other, &lists).is_none(), "{other:?}");
    }
}

#[test]
fn long_names_of_weights_are_looked_up_some_times_only() {
    let mut graph = Graph::new("joint");
    graph.add_initializer("w", Tensor::from_f32(&ndarray::Array2::zeros((1024, 16)).into_dyn()));
    let mut b = GraphBuilder::new("net", 13);
    let (x, w) = (b.input("x", "1024,16"), b.input(&"w".repeat(1 << 20), "1024,16"));
    let y = b.op("Add", "y", &[x, w], []);
    let net = onnx::encode_net(&b.build(&[y])).unwrap();
    for (times, fits) in [(200, true), (300, false)] {
        let block =
            |_| BlockRecipe { from: "w".into(), parts: vec![(0, 0)], ..BlockRecipe::default() };
        let weights = vec![(0..times).map(block).collect()];
        let task = TaskRecipe { graph: net.clone(), weights, ..TaskRecipe::default() };
        let lists = [vec![0]];
        assert_eq!(Assembly::new(&graph, &lists, 1).net(&task).is_ok(), fits, "{times}");
    }
}

#[test]
fn a_recipe_is_a_small_part_of_a_file() {
    let pairs =
        ["zoo/resnet", "zoo/mobilenet", "zoo/inception", "zoo/lstm", "vit/vit", "vit/tuned"];
    for pair in pairs {
        let tasks = ["mnist", "fashion"].map(|name| {
            let path = format!("{}/fixtures/models/{pair}_{name}.onnx", env!("CARGO_MANIFEST_DIR"));
            let model = onnx::load(path.as_ref()).unwrap();
            Task::new(name, canonicalise(model, &CanonOptions::default()).unwrap()).unwrap()
        });
        let joint = JointModel::new(tasks.to_vec());
        let model = emit(&joint, &EmitOptions::default()).unwrap();
        let bytes = onnx::encode(&model).unwrap();
        let (recipe, file) = (model.metadata[RECIPE_KEY].len(), bytes.len());
        // With all layers shared, the file is about half as large.
        let most = (file / 100).max(4000);
        assert!(recipe < most, "{pair}: {recipe} of {file} bytes");
        let restored = restore(&model).unwrap();
        let again = emit(&restored, &EmitOptions::default()).unwrap();
        assert!(onnx::encode(&again).unwrap() == bytes, "{pair} differs");
    }
}

#[test]
fn what_is_added_to_blocks_at_places_has_the_scales_of_these() {
    let mut graph = Graph::new("joint");
    let matrix =
        |scale: f32| ndarray::Array2::from_shape_fn((2, 4), |(i, j)| scale * (i * 4 + j) as f32);
    graph.add_initializer("w", Tensor::from_f32(&matrix(1.0).into_dyn()));
    let scale = Tensor::from_f32(&ndarray::arr1(&[0.5, 1.0, 2.0, 4.0]).into_dyn());
    let codes = Codes::new(DataType::I4, 1, scale, None);
    graph.add_stored("v", Tensor::from_f32(&matrix(100.0).into_dyn()), Some(codes));
    let mut b = GraphBuilder::new("net", 13);
    let (x, w) = (b.input("x", "2,3"), b.input("own", "2,3"));
    let y = b.op("Add", "y", &[x, w], []);
    let block = BlockRecipe { from: "w".into(), plus: Some("v".into()), ..BlockRecipe::default() };
    let blocks = vec![BlockRecipe { within: Some((1, 0)), ..block }];
    let task = TaskRecipe {
        name: "a".to_owned(),
        graph: onnx::encode_net(&b.build(&[y])).unwrap(),
        weights: vec![blocks],
        ..TaskRecipe::default()
    };
    let (net, sums) = Assembly::new(&graph, &[vec![3, 0, 2]], 2).net(&task).unwrap();
    let own = net.graph.value_named("own").unwrap();
    let numbers = |tensor: &Tensor| tensor.to_f32().unwrap().into_raw_vec_and_offset().0;
    assert_eq!(
        numbers(net.graph.initializer(own).unwrap()),
        [303.0, 0.0, 202.0, 707.0, 404.0, 606.0]
    );
    assert_eq!(numbers(&sums[&own].1.codes.scale), [4.0, 0.5, 2.0]);
}
