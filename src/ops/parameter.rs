//! The operands of an operator that are trainable parameters.

/// Operators with parameters, and the inputs that hold them: weights, biases, scales, slopes.
///
/// Statistics (mean and variance) are no parameters. Nor are constants of plain arithmetic, which may
/// normalise the input.
const PARAMETERS: &[(&str, &[usize])] = &[
    ("Conv", &[1, 2]),
    ("ConvTranspose", &[1, 2]),
    ("Gemm", &[1, 2]),
    ("MatMul", &[0, 1]),
    ("BatchNormalization", &[1, 2]),
    ("InstanceNormalization", &[1, 2]),
    ("LayerNormalization", &[1, 2]),
    ("PRelu", &[1]),
    ("LSTM", &[1, 2, 3]),
    ("GRU", &[1, 2, 3]),
    ("RNN", &[1, 2, 3]),
];

/// Whether input `index` of operator `op` of the standard operator set holds a parameter, if it is a
/// constant.
pub fn is_parameter(op: &str, index: usize) -> bool {
    PARAMETERS.iter().any(|(name, inputs)| *name == op && inputs.contains(&index))
}
