//! Functions of one or two elements.

use crate::ir::Node;

/// A function of one float.
type OfFloat = Box<dyn Fn(f64) -> f64>;

/// The function of one float that a node computes.
pub(super) fn of_float(node: &Node) -> Option<OfFloat> {
    let function: fn(f64) -> f64 = match node.op.as_str() {
        "Neg" => |v| -v,
        "Abs" => f64::abs,
        "Sqrt" => f64::sqrt,
        "Reciprocal" => f64::recip,
        "Exp" => f64::exp,
        "Log" => f64::ln,
        "Sin" => f64::sin,
        "Cos" => f64::cos,
        "Tanh" => f64::tanh,
        "Floor" => f64::floor,
        "Ceil" => f64::ceil,
        "Round" => f64::round_ties_even,
        "Sign" => |v| if v == 0.0 || v.is_nan() { v } else { v.signum() },
        "Relu" => |v| if v < 0.0 { 0.0 } else { v },
        "Sigmoid" => |v| (1.0 + (-v).exp()).recip(),
        "Softplus" => |v| v.max(0.0) + (-v.abs()).exp().ln_1p(),
        "Softsign" => |v| v / (1.0 + v.abs()),
        "HardSwish" => |v| v * (v / 6.0 + 0.5).clamp(0.0, 1.0),
        _ => return with_factors(node),
    };
    Some(Box::new(function))
}

/// The function of one float that a node with factors computes.
fn with_factors(node: &Node) -> Option<OfFloat> {
    let factor = |name: &str, default: f32| f64::from(node.float(name, default));
    Some(match node.op.as_str() {
        "LeakyRelu" => {
            let alpha = factor("alpha", 0.01);
            Box::new(move |v| if v < 0.0 { alpha * v } else { v })
        }
        "Elu" => {
            let alpha = factor("alpha", 1.0);
            Box::new(move |v| if v < 0.0 { alpha * v.exp_m1() } else { v })
        }
        "HardSigmoid" => {
            let (alpha, beta) = (factor("alpha", 0.2), factor("beta", 0.5));
            Box::new(move |v| (alpha * v + beta).clamp(0.0, 1.0))
        }
        _ => return None,
    })
}

/// The function of one integer that an operator computes; it gives `None` where it overflows.
pub(super) fn of_int(op: &str) -> Option<fn(i64) -> Option<i64>> {
    Some(match op {
        "Not" => |v| Some(i64::from(v == 0)),
        "Neg" => i64::checked_neg,
        "Abs" => i64::checked_abs,
        "Relu" => |v| Some(v.max(0)),
        "Sign" => |v| Some(v.signum()),
        _ => return None,
    })
}

/// The function of two floats that a node computes. `Sum` and `Mean` add up.
pub(super) fn of_floats(node: &Node) -> Option<fn(f64, f64) -> f64> {
    Some(match node.op.as_str() {
        "Add" | "Sum" | "Mean" => |a, b| a + b,
        "Sub" => |a, b| a - b,
        "Mul" => |a, b| a * b,
        "Div" => |a, b| a / b,
        "Pow" => f64::powf,
        "Max" => |a, b| if a.is_nan() || a > b { a } else { b },
        "Min" => |a, b| if a.is_nan() || a < b { a } else { b },
        "Mod" if node.int("fmod", 0) == 1 => |a, b| a % b,
        "PRelu" => |a, b| if a < 0.0 { a * b } else { a },
        _ => return None,
    })
}

/// The function of two integers that a node computes; it gives `None` where it overflows.
pub(super) fn of_ints(node: &Node) -> Option<fn(i64, i64) -> Option<i64>> {
    Some(match node.op.as_str() {
        "Add" | "Sum" => i64::checked_add,
        "Sub" => i64::checked_sub,
        "Mul" => i64::checked_mul,
        "Div" => i64::checked_div,
        "Pow" => |a, b| a.checked_pow(u32::try_from(b).ok()?),
        "Max" => |a, b| Some(a.max(b)),
        "Min" => |a, b| Some(a.min(b)),
        "Mod" if node.int("fmod", 0) == 1 => i64::checked_rem,
        "Mod" => |a, b| {
            let rest = a.checked_rem(b)?;
            Some(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
        },
        "And" => |a, b| Some(i64::from(a != 0 && b != 0)),
        "Or" => |a, b| Some(i64::from(a != 0 || b != 0)),
        "Xor" => |a, b| Some(i64::from((a != 0) != (b != 0))),
        "BitwiseAnd" => |a, b| Some(a & b),
        "BitwiseOr" => |a, b| Some(a | b),
        "BitwiseXor" => |a, b| Some(a ^ b),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(op: &str) -> Node {
        Node { op: op.to_owned(), ..Node::default() }
    }

    #[test]
    fn functions_have_the_values_of_the_standard() {
        let cases = [
            ("Round", 2.5, 2.0),
            ("Round", -1.5, -2.0),
            ("Sign", -3.0, -1.0),
            ("Sign", 0.0, 0.0),
            ("Relu", -3.0, 0.0),
            ("Relu", 3.0, 3.0),
            ("Sigmoid", 0.0, 0.5),
            ("Sigmoid", -1000.0, 0.0),
            ("Softplus", 1000.0, 1000.0),
            ("Softsign", -1.0, -0.5),
            ("HardSwish", 3.0, 3.0),
            ("HardSwish", -3.0, 0.0),
            ("HardSigmoid", 9.0, 1.0),
            ("Elu", -1000.0, -1.0),
            ("LeakyRelu", 2.0, 2.0),
        ];
        for (op, x, y) in cases {
            assert_eq!(of_float(&node(op)).unwrap()(x), y, "{op} of {x}");
        }
        assert!(of_float(&node("Relu")).unwrap()(f64::NAN).is_nan());
        assert!(of_float(&node("Mystery")).is_none());
    }

    #[test]
    fn no_number_beside_a_number_stays() {
        for op in ["Max", "Min"] {
            let function = of_floats(&node(op)).unwrap();
            assert!(function(f64::NAN, 1.0).is_nan() && function(1.0, f64::NAN).is_nan(), "{op}");
        }
        assert_eq!(of_floats(&node("Max")).unwrap()(1.0, 2.0), 2.0);
        assert_eq!(of_floats(&node("Min")).unwrap()(1.0, 2.0), 1.0);
    }

    #[test]
    fn integers_overflow_or_fit() {
        let pair = |op: &str, a, b| of_ints(&node(op)).unwrap()(a, b);
        assert_eq!((pair("Mod", -7, 3), pair("Mod", 7, -3)), (Some(2), Some(-2)));
        assert_eq!((pair("Mod", 7, 0), pair("Mod", i64::MIN, -1)), (None, None));
        assert_eq!(
            (pair("Pow", 3, 4), pair("Pow", 2, 64), pair("Pow", 2, -1)),
            (Some(81), None, None)
        );
        assert_eq!(of_int("Sign").unwrap()(-9), Some(-1));
        assert_eq!(of_int("Neg").unwrap()(i64::MIN), None);
    }
}
