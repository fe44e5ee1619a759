//! Inputs and outputs of a model, and the check of fed arrays.

use std::collections::HashMap;

use super::array::HostArray;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::{DataType, Dim, Graph, ValueId, samples};

/// A named input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name in the graph.
    pub name: String,
    /// Element type.
    pub dtype: DataType,
    /// Dimensions, outermost first; `None` where even the rank is not known.
    pub shape: Option<Vec<Dim>>,
}

impl Port {
    /// The shape for messages, e.g. `batch×1×28×28`.
    pub fn shape_text(&self) -> String {
        let Some(shape) = &self.shape else { return "of unknown rank".to_string() };
        let dims: Vec<String> = shape
            .iter()
            .map(|dim| match dim {
                Dim::Known(size) => size.to_string(),
                Dim::Symbol(name) => name.clone(),
                Dim::Formula(size) => size.to_string(),
                Dim::Unknown => "?".to_string(),
            })
            .collect();
        join(&dims)
    }
}

/// Inputs or outputs of a graph.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for a value that is not a tensor.
pub(crate) fn ports(graph: &Graph, values: &[ValueId]) -> Result<Vec<Port>> {
    let port = |id: &ValueId| {
        let value = graph.value(*id);
        let ty = value.ty.clone().ok_or_else(|| {
            let message = format!("'{}' is not a tensor of known type", value.name);
            Error::new(ErrorKind::Unsupported, message)
        })?;
        Ok(Port { name: value.name.clone(), dtype: ty.dtype, shape: ty.shape })
    };
    values.iter().map(port).collect()
}

/// A shape for messages, e.g. `64×1×28×28`.
pub fn shape_text(shape: &[usize]) -> String {
    join(&shape.iter().map(usize::to_string).collect::<Vec<_>>())
}

fn join(dims: &[String]) -> String {
    if dims.is_empty() { "scalar".to_string() } else { dims.join("×") }
}

/// A dimension from its name in a file. Exporters write `?`, `-1` or `None` for unrelated sizes,
/// which must not count as equal.
pub(super) fn named_dim(name: &str) -> Dim {
    if name == "None" || !name.contains(char::is_alphabetic) {
        Dim::Unknown
    } else {
        Dim::Symbol(name.to_string())
    }
}

/// The batch size that a model fixes by an input, if any.
pub fn fixed_batch(ports: &[Port]) -> Option<usize> {
    samples::fixed_batch(&shapes(ports))
}

/// The axis of each input of a model that counts samples.
pub fn sample_axes(ports: &[Port]) -> Vec<usize> {
    samples::sample_axes(&shapes(ports))
}

fn shapes(ports: &[Port]) -> Vec<Option<&[Dim]>> {
    ports.iter().map(|port| port.shape.as_deref()).collect()
}

/// Borrows owned, named arrays the way [`Session::run`](super::Session::run) takes them.
pub fn feeds(named: &[(String, HostArray)]) -> Vec<(&str, &HostArray)> {
    named.iter().map(|(name, array)| (name.as_str(), array)).collect()
}

/// The arrays in the order of `ports`.
///
/// Checked here, so that every backend gives the same errors.
///
/// # Errors
/// [`ErrorKind::Backend`] where an input is missing, unknown, given twice, or of another type or
/// shape than the model takes.
pub(super) fn in_port_order<'a>(
    ports: &[Port],
    inputs: &[(&str, &'a HostArray)],
) -> Result<Vec<&'a HostArray>> {
    if let Some((name, _)) = inputs.iter().find(|(name, _)| ports.iter().all(|p| p.name != *name)) {
        return Err(refusal(format!("there is no input '{name}' to feed"), ports));
    }
    let mut symbols = HashMap::new();
    ports
        .iter()
        .map(|port| {
            let mut given = inputs.iter().filter(|(name, _)| *name == port.name);
            let (_, array) = given
                .next()
                .ok_or_else(|| refusal(format!("input '{}' is not fed", port.name), ports))?;
            if given.next().is_some() {
                return Err(refusal(format!("input '{}' is fed twice", port.name), ports));
            }
            check(port, array, &mut symbols)?;
            Ok(*array)
        })
        .collect()
}

fn check<'p>(
    port: &'p Port,
    array: &HostArray,
    symbols: &mut HashMap<&'p str, usize>,
) -> Result<()> {
    let fits = port.dtype == array.dtype()
        && port.shape.as_ref().is_none_or(|dims| {
            dims.len() == array.shape().len()
                && dims.iter().zip(array.shape()).all(|(dim, size)| match dim {
                    Dim::Known(known) => known == size,
                    Dim::Symbol(name) => *symbols.entry(name).or_insert(*size) == *size,
                    Dim::Formula(_) | Dim::Unknown => true,
                })
        });
    if fits {
        return Ok(());
    }
    let bound: Vec<String> = port
        .shape
        .iter()
        .flatten()
        .filter_map(|dim| match dim {
            Dim::Symbol(name) => Some(format!("{name} = {}", symbols.get(name.as_str())?)),
            _ => None,
        })
        .collect();
    let bound =
        if bound.is_empty() { String::new() } else { format!(" with {}", bound.join(", ")) };
    Err(Error::new(
        ErrorKind::Backend,
        format!(
            "input '{}' takes {:?} {}{bound} but is fed {:?} {}",
            port.name,
            port.dtype,
            port.shape_text(),
            array.dtype(),
            shape_text(array.shape()),
        ),
    )
    .hint("give arrays of this type and shape"))
}

fn refusal(message: String, ports: &[Port]) -> Error {
    let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
    Error::new(ErrorKind::Backend, message)
        .hint(format!("the model's inputs are: {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{ArrayD, IxDyn};

    fn port(name: &str) -> Port {
        let shape = vec![Dim::Symbol("n".into()), Dim::Known(2), Dim::Unknown];
        Port { name: name.into(), dtype: DataType::F32, shape: Some(shape) }
    }

    fn zeros(shape: &[usize]) -> HostArray {
        ArrayD::<f32>::zeros(IxDyn(shape)).into()
    }

    #[test]
    fn feeds_come_out_in_port_order() {
        let (small, large) = (zeros(&[3, 2, 1]), zeros(&[3, 2, 9]));
        let ports = [port("a"), port("b")];
        let ordered = in_port_order(&ports, &[("b", &large), ("a", &small)]).unwrap();
        assert_eq!(ordered, [&small, &large]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let ports = [port("a"), port("b")];
        let (three, four) = (zeros(&[3, 2, 1]), zeros(&[4, 2, 1]));
        let flat = zeros(&[3, 2]);
        let ints = HostArray::from(ArrayD::<i64>::zeros(IxDyn(&[3, 2, 1])));
        let cases: [(&[(&str, &HostArray)], &str); 6] = [
            (&[("a", &three)], "input 'b' is not fed; the model's inputs are: a, b"),
            (&[("c", &three)], "there is no input 'c' to feed"),
            (&[("a", &three), ("a", &three), ("b", &three)], "input 'a' is fed twice"),
            (&[("a", &three), ("b", &four)], "F32 n×2×? with n = 3 but is fed F32 4×2×1"),
            (&[("a", &flat), ("b", &three)], "but is fed F32 3×2"),
            (&[("a", &ints), ("b", &three)], "but is fed I64 3×2×1"),
        ];
        for (inputs, expected) in cases {
            let error = in_port_order(&ports, inputs).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Backend);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn placeholders_are_no_symbols() {
        for name in ["", "?", "-1", "None"] {
            assert_eq!(named_dim(name), Dim::Unknown);
        }
        assert_eq!(named_dim("batch"), Dim::Symbol("batch".into()));
    }

    #[test]
    fn a_fixed_batch_is_reported() {
        let mut fixed = port("a");
        fixed.shape = Some(vec![Dim::Known(8), Dim::Unknown]);
        assert_eq!(fixed_batch(&[port("b"), fixed]), Some(8));
        assert_eq!(fixed_batch(&[port("b")]), None);
    }
}
