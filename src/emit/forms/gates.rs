//! Gates: they pass a value if a task is selected, and zeros otherwise.

use crate::error::{Error, ErrorKind, Hint, Result};
use crate::ir::{Attribute, DataType, Tensor, ValueId};
use crate::mtz::joint::{JointModel, Task};

use crate::emit::builder::Builder;

/// The operators of a gate.
#[derive(Clone, Copy)]
enum Pass {
    /// `Where` between the value and zero.
    Where,
    /// `Where` in another type, which holds all values and which runtimes support.
    WhereAs(DataType),
    /// `And`, for booleans.
    And,
}

/// The gate for elements of a type; `None` for types without one.
fn pass(dtype: DataType) -> Option<Pass> {
    match dtype {
        DataType::F32 | DataType::F64 | DataType::F16 => Some(Pass::Where),
        DataType::I8 | DataType::I32 | DataType::I64 | DataType::U8 => Some(Pass::Where),
        DataType::I16 | DataType::U16 => Some(Pass::WhereAs(DataType::I32)),
        DataType::U32 | DataType::U64 => Some(Pass::WhereAs(DataType::I64)),
        DataType::BF16 => Some(Pass::WhereAs(DataType::F32)),
        DataType::Bool => Some(Pass::And),
        DataType::Other(_) => (dtype == DataType::STRING).then_some(Pass::Where),
    }
}

/// Checks that all outputs of a task can be zero while another task is computed.
///
/// # Errors
/// [`ErrorKind::Usage`] naming an output that is no tensor, or of a type without a zero.
pub(crate) fn check(task: &Task) -> Result<()> {
    let graph = task.graph();
    let zero = |id: ValueId| graph.type_of(id).is_some_and(|ty| pass(ty.dtype).is_some());
    match graph.outputs.iter().find(|id| !zero(**id)) {
        Some(output) => {
            let name = &graph.value(*output).name;
            let message = format!(
                "output '{name}' cannot be zero while another task is selected: it is not a tensor, or its type has no zero"
            );
            Err(Error::new(ErrorKind::Usage, message)
                .hint(Hint::from("use ").option_as("form", "heads"))
                .in_model(task.name()))
        }
        None => Ok(()),
    }
}

/// One condition per task: whether it is selected. Conditions are scalars, so that they broadcast.
pub(super) struct Gates(Vec<ValueId>);

impl Gates {
    /// Gates that compare `selected`, a vector of one element, with the number of each task.
    pub(super) fn new(joint: &JointModel, builder: &mut Builder, selected: ValueId) -> Gates {
        let number = builder.op("Squeeze", "task.number", &[selected], []);
        let gate = |(index, task): (usize, &Task)| {
            let name = format!("{}/index", task.name());
            let index = builder.constant(&name, Tensor::from_i64(Vec::new(), &[index as i64]));
            builder.op("Equal", &format!("{}/gate", task.name()), &[number, index], [])
        };
        Gates(joint.tasks().iter().enumerate().map(gate).collect())
    }

    /// `value` of type `dtype` if one of `tasks` is selected, else zeros.
    pub(super) fn gated(
        &self,
        builder: &mut Builder,
        tasks: impl IntoIterator<Item = usize>,
        value: ValueId,
        dtype: DataType,
        name: &str,
    ) -> ValueId {
        let own: Vec<ValueId> = tasks.into_iter().filter_map(|t| self.0.get(t).copied()).collect();
        let Some((first, rest)) = own.split_first() else { return value };
        let any = |any: ValueId, gate: &ValueId| builder.op("Or", "gate", &[any, *gate], []);
        let open = rest.iter().fold(*first, any);
        match pass(dtype) {
            Some(Pass::And) => builder.op("And", name, &[value, open], []),
            Some(Pass::WhereAs(wide)) => {
                let value = cast(builder, value, wide, name);
                let chosen = choose(builder, open, value, wide, name);
                cast(builder, chosen, dtype, name)
            }
            _ => choose(builder, open, value, dtype, name),
        }
    }
}

fn choose(
    builder: &mut Builder,
    open: ValueId,
    value: ValueId,
    dtype: DataType,
    name: &str,
) -> ValueId {
    // A `Constant` node: initializers are for parameters.
    let zero = [("value", Attribute::Tensor(Tensor::zero(dtype)))];
    let zero = builder.op("Constant", "zero", &[], zero);
    builder.op("Where", name, &[open, value, zero], [])
}

fn cast(builder: &mut Builder, value: ValueId, to: DataType, name: &str) -> ValueId {
    let to = [("to", Attribute::Int(i64::from(to.code())))];
    builder.op("Cast", name, &[value], to)
}
