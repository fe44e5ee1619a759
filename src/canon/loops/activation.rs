//! Functions of single elements that recurrent layers apply.

use ndarray::Array1;

use crate::ir::Node;

/// Functions without parameters, by the name that operators and recurrent layers have in common.
const PLAIN: &[&str] = &["Relu", "Sigmoid", "Softplus", "Softsign", "Tanh"];

/// A bounded identity, which is a part of some forms of `HardSigmoid`; no function of recurrent layers.
const CLIP: &str = "Clip";

/// Tolerance of numbers that were rounded to single precision.
const ROUNDING: f32 = 1e-6;

/// A function of single elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Activation {
    /// The operator, whose name is that of the function in a recurrent layer.
    pub(super) name: &'static str,
    pub(super) alpha: Option<f32>,
    pub(super) beta: Option<f32>,
}

impl Activation {
    /// The logistic function.
    pub(super) const SIGMOID: Activation = plain("Sigmoid");

    /// The hyperbolic tangent.
    pub(super) const TANH: Activation = plain("Tanh");

    /// The function that a node applies. `number` gives an operand that is one number.
    pub(super) fn of(node: &Node, number: impl Fn(usize) -> Option<f32>) -> Option<Activation> {
        let factor = |name: &str, default: f32| Some(node.float(name, default));
        if let Some(name) = PLAIN.iter().find(|name| node.op == **name) {
            return Some(plain(name));
        }
        match node.op.as_str() {
            "Elu" => Some(Activation { alpha: factor("alpha", 1.0), ..plain("Elu") }),
            "LeakyRelu" => Some(Activation { alpha: factor("alpha", 0.01), ..plain("LeakyRelu") }),
            "HardSigmoid" => Some(hard_sigmoid(node.float("alpha", 0.2), node.float("beta", 0.5))),
            "Clip" if number(1)? == 0.0 => match number(2)? {
                1.0 => Some(hard_sigmoid(1.0, 0.0)),
                most => Some(Activation { alpha: Some(most), ..plain(CLIP) }),
            },
            _ => None,
        }
    }

    /// The function times a number that is the same for all columns, if recurrent layers have it.
    pub(super) fn times(self, factors: &Array1<f32>) -> Option<Activation> {
        let (most, factor) = (self.alpha?, *factors.first()?);
        let is_hard_sigmoid = self.name == CLIP
            && (most * factor - 1.0).abs() <= ROUNDING
            && factors.iter().all(|other| *other == factor);
        is_hard_sigmoid.then(|| hard_sigmoid(factor, 0.0))
    }

    /// Whether recurrent layers have the function.
    pub(super) fn is_recurrent(self) -> bool {
        self.name != CLIP
    }
}

const fn plain(name: &'static str) -> Activation {
    Activation { name, alpha: None, beta: None }
}

const fn hard_sigmoid(alpha: f32, beta: f32) -> Activation {
    Activation { alpha: Some(alpha), beta: Some(beta), ..plain("HardSigmoid") }
}
