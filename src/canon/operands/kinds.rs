//! Kinds of attributes.
//!
//! In the standard operator set, attributes of one name have one kind in all operators and versions, but for the few
//! that are left out here. An attribute of another kind would be read as its default, and by a runtime perhaps as
//! something else.

use crate::ir::{Attribute, Node};

/// A kind of attribute, in words, and the names of the standard attributes that have it.
type Kind = (&'static str, fn(&Attribute) -> bool, &'static [&'static str]);

#[rustfmt::skip]
const KINDS: &[Kind] = &[
    ("a whole number", |a| matches!(a, Attribute::Int(_)), &[
        "align_corners", "allowzero", "antialias", "axis", "batch_axis", "batch_dims", "block_size", "blocksize",
        "broadcast", "ceil_mode", "center_point_box", "count_include_pad", "detect_negative", "detect_positive",
        "dtype", "end", "exclude_outside", "exclusive", "fmod", "group", "hidden_size", "ignore_index",
        "input_forget", "interleaved", "inverse", "is_causal", "is_test", "keepdims", "kv_num_heads", "largest",
        "layout", "linear_before_reset", "max_gram_length", "max_skip_count", "min_gram_length",
        "noop_with_empty_axes", "num_groups", "num_heads", "num_outputs", "num_scan_inputs", "offset_group",
        "onesided", "output_dtype", "output_height", "output_width", "periodic", "precision", "q_num_heads",
        "qk_matmul_output_mode", "reverse", "rotary_embedding_dim", "sample_size", "sampling_ratio", "saturate",
        "select_last_index", "softmax_precision", "sorted", "spatial", "start", "stash_type", "storage_order",
        "time_axis", "training_mode", "transA", "transB", "upper", "value_int",
    ]),
    ("a number", |a| matches!(a, Attribute::Float(_)), &[
        "alpha", "beta", "bias", "clip", "cubic_coeff_a", "epsilon", "extrapolation_value", "gamma", "high",
        "lambd", "low", "max", "mean", "min", "momentum", "ratio", "softcap", "spatial_scale", "value_float",
    ]),
    ("a list of whole numbers", |a| matches!(a, Attribute::Ints(_)), &[
        "axes", "dilations", "directions", "ends", "kernel_shape", "ngram_counts", "ngram_indexes",
        "output_padding", "output_shape", "paddings", "pads", "perm", "pool_int64s", "scan_input_axes",
        "scan_input_directions", "scan_output_axes", "scan_output_directions", "shape", "split", "starts",
        "strides", "value_ints",
    ]),
    ("a list of numbers", |a| matches!(a, Attribute::Floats(_)), &[
        "activation_alpha", "activation_beta", "scales", "value_floats",
    ]),
    ("a text", |a| matches!(a, Attribute::Str(_)), &[
        "approximate", "auto_pad", "coordinate_transformation_mode", "direction", "equation",
        "keep_aspect_ratio_policy", "mode", "nearest_mode", "padding_mode", "reduction", "value_string",
    ]),
    ("a list of texts", |a| matches!(a, Attribute::Strs(_)), &["activations", "value_strings"]),
    ("a graph", |a| matches!(a, Attribute::Graph(_)), &["body", "else_branch", "then_branch"]),
];

/// The fault of the first attribute of another kind than its name has.
pub(super) fn fault(node: &Node) -> Option<String> {
    let other = node.attributes.iter().find_map(|(name, value)| {
        let (kind, is, _) = KINDS.iter().find(|(.., names)| names.contains(&name.as_str()))?;
        // A reference to an attribute of a function stays encoded.
        let fits = is(value) || matches!(value, Attribute::Encoded(_));
        (!fits).then_some((name.as_str(), *kind))
    });
    let (name, kind) = other.or_else(|| filling(node).map(|name| (name, "a tensor")))?;
    Some(format!("has something else than {kind} in '{name}'"))
}

/// The attribute of an operator that returns it, if it is no tensor. The first versions of `Pad` have a number
/// of this name.
fn filling(node: &Node) -> Option<&'static str> {
    let returns = matches!(node.op.as_str(), "Constant" | "ConstantOfShape");
    let value = node.attributes.get("value").filter(|_| returns)?;
    (!matches!(value, Attribute::Tensor(_) | Attribute::Encoded(_))).then_some("value")
}
