use crate::canon::{CanonOptions, canonicalise};
use crate::ir::builder::GraphBuilder;
use crate::ir::{DataType, Model, ValueId};

/// The operators of a net with one `Einsum`, in canonical form.
fn ops_of(equation: &str, operands: impl Fn(&mut GraphBuilder) -> Vec<ValueId>) -> Vec<String> {
    let mut b = GraphBuilder::new("net", 17);
    let operands = operands(&mut b);
    let y = b.op("Einsum", "y", &operands, [("equation", equation.into())]);
    names(&canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap())
}

fn names(model: &Model) -> Vec<String> {
    model.graph.nodes().map(|(_, node)| node.op.clone()).collect()
}

fn ops(equation: &str, weight: [usize; 2]) -> Vec<String> {
    ops_of(equation, |b| vec![b.input("x", "n,4,6"), b.weights("w", &weight)])
}

/// The operators for computed operands of these extents.
fn between(equation: &str, operands: &[&str]) -> Vec<String> {
    ops_of(equation, |b| {
        let named = operands.iter().zip(["x", "y"]);
        named.map(|(dims, name)| b.input(name, dims)).collect()
    })
}

#[test]
fn products_with_a_matrix_are_layers() {
    for (equation, weight) in [
        ("nti, io -> nto", [6, 8]),
        ("nti,oi->nto", [8, 6]),
        ("nti,to->nio", [4, 8]),
        ("nti,io->not", [6, 8]),
        ("...i,io", [6, 8]),
    ] {
        let found = ops(equation, weight);
        assert!(found.contains(&"MatMul".to_owned()), "{equation}: {found:?}");
        assert!(!found.contains(&"Einsum".to_owned()), "{equation}: {found:?}");
    }
    let swapped = ops_of("io,nti->nto", |b| vec![b.weights("w", &[6, 8]), b.input("x", "n,4,6")]);
    assert!(swapped.contains(&"MatMul".to_owned()), "{swapped:?}");
}

#[test]
fn a_weight_that_einsum_repeats_is_left() {
    assert_eq!(ops("nti,io->nto", [1, 8]), ["Einsum"]);
    let repeated = |b: &mut GraphBuilder| vec![b.input("x", "n,4,6"), b.weights("w", &[1, 6, 8])];
    assert_eq!(ops_of("nti,tio->nto", repeated), ["Einsum"]);
}

#[test]
fn a_weight_for_each_of_several_axes_is_a_stack_of_matrices() {
    assert_eq!(ops("nti,ti->nti", [4, 6]), ["Mul"]);
    let stacked = |b: &mut GraphBuilder| vec![b.input("x", "n,4,6"), b.weights("w", &[4, 6, 8])];
    let found = ops_of("nti,tio->nto", stacked);
    assert_eq!(found.iter().filter(|op| *op == "MatMul").count(), 1, "{found:?}");
    assert!(!found.contains(&"Einsum".to_owned()), "{found:?}");
    let relative = |b: &mut GraphBuilder| vec![b.input("q", "n,2,3,4"), b.weights("r", &[2, 5, 4])];
    assert_eq!(ops_of("bhwc,hkc->bhwk", relative), ["MatMul"]);
}

#[test]
fn a_product_of_values_needs_equal_extents() {
    let has_product =
        |other: &str| between("bti,bsi->bts", &["n,4,6", other]).contains(&"MatMul".to_owned());
    assert!(has_product("n,5,6"));
    assert!(!has_product("n,5,1"));
}

#[test]
fn one_operand_is_summed_and_transposed() {
    assert_eq!(between("ntc->nct", &["n,4,6"]), ["Transpose"]);
    assert_eq!(between("nchw->nc", &["n,4,6,5"]), ["ReduceSum"]);
    assert_eq!(between("nchw->cn", &["n,4,6,5"]), ["ReduceSum", "Transpose"]);
    assert_eq!(between("t...c->c...t", &["3,n,4,6"]), ["Transpose"]);
    assert_eq!(between("nhh->nh", &["n,4,4"]), ["Einsum"]);
}

#[test]
fn products_without_a_sum_or_without_an_axis_of_one_operand_are_those_of_elements() {
    let both = |equation: &str, a: &str, b: &str| between(equation, &[a, b]);
    assert_eq!(both("nchw,nc->nchw", "n,6,4,5", "n,6"), ["Unsqueeze", "Mul"]);
    assert_eq!(both("nc,nc->n", "n,6", "n,6"), ["Mul", "ReduceSum"]);
    assert_eq!(both("nc,nd->ncd", "n,6", "n,4"), ["Unsqueeze", "Unsqueeze", "Mul"]);
    assert_eq!(both("...c,c->...", "n,4,6", "6"), ["Mul", "ReduceSum"]);
    assert_eq!(both("nchw,nc->nhw", "n,6,4,5", "n,6"), ["Unsqueeze", "Mul", "ReduceSum"]);
}

#[test]
fn other_products_are_one_product_of_matrices() {
    for (equation, operands) in [
        ("nchw,nkhw->nck", ["n,6,4,5", "n,3,4,5"]),
        ("nchw,nck->nhwk", ["n,6,4,5", "n,6,3"]),
        ("nhtc,nsc->ntsh", ["n,2,4,6", "n,5,6"]),
    ] {
        let found = between(equation, &operands);
        assert_eq!(found.iter().filter(|op| *op == "MatMul").count(), 1, "{equation}: {found:?}");
        assert!(!found.contains(&"Einsum".to_owned()), "{equation}: {found:?}");
    }
}

#[test]
fn sums_of_whole_numbers_are_left() {
    let found = ops_of("nc->n", |b| vec![b.typed_input("x", DataType::I8, "n,6")]);
    assert_eq!(found, ["Einsum"]);
}

#[test]
fn a_scale_of_channels_goes_into_the_layer_before_it() {
    let mut b = GraphBuilder::new("net", 17);
    let x = b.input("x", "n,3,8,8");
    let (w, scale) = (b.weights("w", &[6, 3, 3, 3]), b.positive("scale", &[6]));
    let x = b.op("Conv", "conv", &[x, w], []);
    let y = b.op("Einsum", "y", &[x, scale], [("equation", "nchw,c->nchw".into())]);
    let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
    assert_eq!(names(&model), ["Conv"]);
}

#[test]
fn an_addend_of_more_axes_than_the_result_stays_behind_it() {
    let last = |addend: &[usize]| {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "n,4,6");
        let (w, c) = (b.weights("w", &[6, 2, 4]), b.weights("c", addend));
        let y = b.op("Einsum", "heads", &[x, w], [("equation", "nti,ihd->nthd".into())]);
        let y = b.op("Add", "y", &[y, c], []);
        let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
        let producer = model.graph.producer(model.graph.outputs[0]).unwrap();
        model.graph.node(producer).op.clone()
    };
    assert_eq!(last(&[1, 1, 2, 4]), "Reshape");
    assert_eq!(last(&[1, 1, 1, 2, 4]), "Add");
}
