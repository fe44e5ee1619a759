//! A case for every operator that sums or moves elements in another way than the common ones.

use super::cases::Case;
use super::*;
use crate::ir::DataType;

pub(super) const CASES: &[Case] = &[
    ("CastLike", 15, |b| {
        let (x, like) = (variable(b, &[2, 3], -1.0, 1.0), b.scalar("like", 1.0));
        vec![b.op("CastLike", "y", &[x, like], [])]
    }),
    ("CastLike", 15, |b| {
        let (x, half) = (variable(b, &[2, 3], -1.0, 1.0), b.scalar("half", 0.5));
        let to = [("to", i64::from(DataType::F64.code()).into())];
        let double = b.op("Cast", "double", &[x], to);
        let back = b.op("CastLike", "back", &[double, half], []);
        vec![b.op("Mul", "y", &[back, back], [])]
    }),
    ("ReduceSumSquare", 18, |b| reduced(b, "ReduceSumSquare", 0)),
    ("ReduceSumSquare", 18, |b| reduced(b, "ReduceSumSquare", 1)),
    ("ReduceLogSum", 18, |b| reduced(b, "ReduceLogSum", 0)),
    ("ReduceLogSumExp", 18, |b| reduced(b, "ReduceLogSumExp", 0)),
    ("ReduceLogSumExp", 18, |b| reduced(b, "ReduceLogSumExp", 1)),
    ("CumSum", 14, |b| running_sum(b, [0, 0])),
    ("CumSum", 14, |b| running_sum(b, [1, 0])),
    ("CumSum", 14, |b| running_sum(b, [1, 1])),
    ("Tile", 13, |b| {
        let (x, repeats) = (variable(b, &[2, 3, 1], -1.0, 1.0), b.ints("repeats", &[1, 2, 3]));
        vec![b.op("Tile", "y", &[x, repeats], [])]
    }),
    ("SpaceToDepth", 13, |b| {
        let x = variable(b, &[2, 2, 4, 6], -1.0, 1.0);
        vec![b.op("SpaceToDepth", "y", &[x], [("blocksize", 2.into())])]
    }),
    ("DepthToSpace", 13, |b| depth_to_space(b, "DCR")),
    ("DepthToSpace", 13, |b| depth_to_space(b, "CRD")),
    ("Trilu", 14, |b| {
        let x = variable(b, &[2, 3, 4], -1.0, 1.0);
        vec![b.op("Trilu", "y", &[x], [("upper", 0.into())])]
    }),
    ("Trilu", 14, |b| {
        let x = variable(b, &[3, 4], -1.0, 1.0);
        let above = b.constant("above", Tensor::from_i64(Vec::new(), &[1]));
        vec![b.op("Trilu", "y", &[x, above], [])]
    }),
];

fn reduced(b: &mut GraphBuilder, op: &str, keep: i64) -> Vec<ValueId> {
    let (x, axes) = (variable(b, &[2, 3, 4], 0.5, 2.0), b.ints("axes", &[-1, 1]));
    vec![b.op(op, "y", &[x, axes], [("keepdims", keep.into())])]
}

fn running_sum(b: &mut GraphBuilder, [exclusive, reverse]: [i64; 2]) -> Vec<ValueId> {
    let x = variable(b, &[2, 4], -1.0, 1.0);
    let axis = b.constant("axis", Tensor::from_i64(Vec::new(), &[1]));
    let attributes = [("exclusive", exclusive.into()), ("reverse", reverse.into())];
    vec![b.op("CumSum", "y", &[x, axis], attributes)]
}

fn depth_to_space(b: &mut GraphBuilder, mode: &'static str) -> Vec<ValueId> {
    let x = variable(b, &[2, 8, 2, 3], -1.0, 1.0);
    vec![b.op("DepthToSpace", "y", &[x], [("blocksize", 2.into()), ("mode", mode.into())])]
}
