//! Compares inferred types with ONNX's own inference, and with the values that operators return.
//!
//! `scripts/operator_types.py` writes the nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use onnx_zip::canon::infer_types;
use onnx_zip::ir::{Dim, Model, TensorType, ValueId};
use onnx_zip::onnx::load;

const FILES: [&str; 5] = ["nodes", "nodes_13", "nodes_16", "nodes_17", "nodes_18"];

/// A model of single nodes with our inferred types, and the types of its outputs as inferred by ONNX.
fn nodes(file: &str) -> (Model, Vec<(ValueId, Option<TensorType>)>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/types/{file}.onnx"));
    let mut model = load(&path).unwrap();
    let graph = &mut model.graph;
    let outputs = graph.outputs.clone();
    let told = outputs.iter().map(|id| (*id, graph.value(*id).ty.clone())).collect();
    outputs.iter().for_each(|id| graph.set_type(*id, None));
    infer_types(graph).unwrap();
    (model, told)
}

/// Whether `ours` is at least as exact as `theirs`.
fn covers(ours: Option<&TensorType>, theirs: &TensorType) -> bool {
    let Some(ours) = ours else { return false };
    let knows = |(ours, theirs): (&Dim, &Dim)| match theirs {
        Dim::Unknown => true,
        Dim::Known(_) => ours == theirs,
        _ => *ours != Dim::Unknown,
    };
    let shape = match (&ours.shape, &theirs.shape) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(b).all(knows),
    };
    shape && ours.dtype == theirs.dtype
}

/// A type in the notation of the metadata.
fn whole(ty: &TensorType) -> String {
    let extents: Vec<String> = ty.shape.iter().flatten().map(ToString::to_string).collect();
    format!("{}:{}", ty.dtype.code(), extents.join(","))
}

fn text(ty: Option<&TensorType>) -> String {
    ty.map_or("nothing".to_owned(), ToString::to_string)
}

#[test]
fn no_less_is_told_than_by_onnx() {
    let mut less = Vec::new();
    let mut ops = BTreeSet::new();
    for file in FILES {
        let (model, told) = nodes(file);
        let graph = &model.graph;
        for (id, theirs) in told {
            let Some(node) = graph.producer(id).map(|id| graph.node(id)) else { continue };
            ops.insert(node.op.clone());
            let ours = graph.value(id).ty.as_ref();
            let name = &graph.value(id).name;
            // If ONNX's inference is wrong, the operator's result decides.
            let right = ours.is_some_and(|ours| model.metadata.get(name) == Some(&whole(ours)));
            if let Some(theirs) = theirs.filter(|theirs| !right && !covers(ours, theirs)) {
                less.push(format!("{name}: {} where ONNX says {theirs}", text(ours)));
            }
        }
    }
    assert!(ops.len() > 190, "{} operators", ops.len());
    assert!(less.is_empty(), "{} outputs\n{}", less.len(), less.join("\n"));
}

#[test]
fn what_is_told_is_what_operators_return() {
    let mut wrong = Vec::new();
    for file in FILES {
        let (model, _) = nodes(file);
        let graph = &model.graph;
        for (name, actual) in &model.metadata {
            let id = graph.value_named(name).unwrap();
            let Some(ours) = &graph.value(id).ty else { continue };
            let (code, extents) = actual.split_once(':').unwrap();
            let extents: Vec<usize> =
                extents.split(',').filter(|n| !n.is_empty()).map(|n| n.parse().unwrap()).collect();
            let fits = |(dim, n): (&Dim, &usize)| dim.known().is_none_or(|known| known == *n);
            let shape = ours.shape.as_ref().is_none_or(|shape| {
                shape.len() == extents.len() && shape.iter().zip(&extents).all(fits)
            });
            if !shape || ours.dtype.code().to_string() != code {
                wrong.push(format!("{name}: {ours}, but it returns {actual}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} outputs\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn open_values_keep_their_rank() {
    let (model, _) = nodes("nodes");
    let graph = &model.graph;
    // Outputs whose rank depends on a value, and outputs that are sequences.
    let free =
        ["Reshape", "Squeeze", "Unsqueeze", "ConstantOfShape", "MaxUnpool", "OptionalGetElement"];
    let mut lost: BTreeMap<&str, usize> = BTreeMap::new();
    for id in &graph.outputs {
        let value = graph.value(*id);
        let Some(node) = graph.producer(*id).map(|id| graph.node(id)) else { continue };
        let known =
            value.foreign_type.is_some() || value.ty.as_ref().is_some_and(|t| t.shape.is_some());
        if !known && model.metadata.contains_key(&value.name) && !free.contains(&node.op.as_str()) {
            *lost.entry(&node.op).or_default() += 1;
        }
    }
    assert!(lost.is_empty(), "{lost:?}");
}
