//! The table of operators with a gradient.

use crate::ir::{Node, NodeId, ValueId};

use super::unroll::UNROLLED;
use super::{
    Grads, Tape, activation, arithmetic, conv, elementary, linear, norm, pool, reduce, select,
    shape,
};

/// Writes the gradients of a node's inputs from that of its first output. It may leave out inputs
/// whose gradient is not needed.
pub(super) type Rule = fn(&mut Tape, NodeId, &Node, ValueId) -> Grads;

/// Rules by operator. `tests.rs` compares each with finite differences.
const RULES: &[(&str, Rule)] = &[
    ("Gemm", linear::gemm),
    ("MatMul", linear::matmul),
    ("Conv", conv::conv),
    ("ConvTranspose", conv::conv_transpose),
    ("Relu", activation::relu),
    ("LeakyRelu", activation::leaky_relu),
    ("PRelu", activation::prelu),
    ("ThresholdedRelu", activation::thresholded_relu),
    ("Elu", activation::elu),
    ("Selu", activation::selu),
    ("Celu", activation::celu),
    ("Sigmoid", activation::sigmoid),
    ("Tanh", activation::tanh),
    ("Clip", activation::clip),
    ("HardSigmoid", activation::hard_sigmoid),
    ("HardSwish", activation::hard_swish),
    ("Softplus", activation::softplus),
    ("Softsign", activation::softsign),
    ("Mish", activation::mish),
    ("Swish", activation::swish),
    ("Gelu", activation::gelu),
    ("Exp", elementary::exp),
    ("Log", elementary::log),
    ("Sqrt", elementary::sqrt),
    ("Reciprocal", elementary::reciprocal),
    ("Neg", elementary::neg),
    ("Abs", elementary::abs),
    ("Erf", elementary::erf),
    ("Sin", elementary::sin),
    ("Cos", elementary::cos),
    ("Add", arithmetic::add),
    ("Sub", arithmetic::sub),
    ("Mul", arithmetic::mul),
    ("Div", arithmetic::div),
    ("Pow", arithmetic::pow),
    ("Sum", arithmetic::sum),
    ("Mean", arithmetic::mean),
    ("Max", arithmetic::extremum),
    ("Min", arithmetic::extremum),
    ("Where", arithmetic::choice),
    ("BatchNormalization", norm::batch_norm),
    ("InstanceNormalization", norm::instance_norm),
    ("LayerNormalization", norm::layer_norm),
    ("RMSNormalization", norm::rms_norm),
    ("LRN", norm::local_response),
    ("Softmax", norm::softmax),
    ("LogSoftmax", norm::log_softmax),
    ("MaxPool", pool::max_pool),
    ("AveragePool", pool::average_pool),
    ("GlobalAveragePool", pool::global_average_pool),
    ("GlobalMaxPool", pool::global_max_pool),
    ("ReduceMean", reduce::mean),
    ("ReduceSum", reduce::sum),
    ("ReduceMax", reduce::extremum),
    ("ReduceMin", reduce::extremum),
    ("ReduceL1", reduce::l1),
    ("ReduceL2", reduce::l2),
    ("ReduceSumSquare", reduce::sum_square),
    ("ReduceLogSum", reduce::log_sum),
    ("ReduceLogSumExp", reduce::log_sum_exp),
    ("CumSum", reduce::running_sum),
    ("Identity", shape::identity),
    ("Cast", shape::cast),
    ("CastLike", shape::cast),
    ("Flatten", shape::reshape),
    ("Reshape", shape::reshape),
    ("Squeeze", shape::reshape),
    ("Unsqueeze", shape::reshape),
    ("Expand", shape::expand),
    ("Tile", shape::tile),
    ("SpaceToDepth", shape::space_to_depth),
    ("DepthToSpace", shape::depth_to_space),
    ("Transpose", shape::transpose),
    ("Pad", shape::pad),
    ("Resize", shape::resize),
    ("Concat", select::concat),
    ("Split", select::split),
    ("Slice", select::slice),
    ("Gather", select::gather),
    ("Trilu", select::triangle),
];

/// The rule of operator `op`.
pub(super) fn rule(op: &str) -> Option<Rule> {
    RULES.iter().find(|(name, _)| *name == op).map(|(_, rule)| *rule)
}

/// Operators that can be differentiated.
pub fn differentiable_ops() -> Vec<&'static str> {
    RULES.iter().map(|(op, _)| *op).chain(UNROLLED).collect()
}
