//! Operators with weights, windows or parameters per channel.

use super::Operands;

pub(super) fn conv(operands: &Operands<'_>) -> Option<String> {
    convolution(operands, 1, Some(2))
}

pub(super) fn integer_conv(operands: &Operands<'_>) -> Option<String> {
    convolution(operands, 1, None)
}

pub(super) fn quantised_conv(operands: &Operands<'_>) -> Option<String> {
    convolution(operands, 3, Some(8))
}

/// The fault of a convolution with its weight and its bias at these inputs.
fn convolution(operands: &Operands<'_>, weight: usize, bias: Option<usize>) -> Option<String> {
    let rank = operands.rank(weight)?;
    let groups = match groups(operands) {
        Ok(groups) => groups,
        Err(fault) => return Some(fault),
    };
    let (out, inputs) = (operands.extent(weight, 0), operands.extent(weight, 1));
    if out.is_some_and(|out| out % groups != 0) {
        return Some(format!("has {} filters in {groups} groups", out.unwrap_or_default()));
    }
    wrong_kernel(operands, weight, rank)
        .or_else(|| operands.wrong_shape(bias?, "a bias", &[out]))
        .or_else(|| wrong_channels(operands, weight, inputs?.checked_mul(groups)?, rank))
}

pub(super) fn conv_transpose(operands: &Operands<'_>) -> Option<String> {
    let rank = operands.rank(1)?;
    let groups = match groups(operands) {
        Ok(groups) => groups,
        Err(fault) => return Some(fault),
    };
    let (inputs, filters) = (operands.extent(1, 0), operands.extent(1, 1));
    if inputs.is_some_and(|inputs| inputs % groups != 0) {
        return Some(format!("reads {} channels in {groups} groups", inputs.unwrap_or_default()));
    }
    let out = filters.and_then(|filters| filters.checked_mul(groups));
    wrong_kernel(operands, 1, rank)
        .or_else(|| operands.wrong_shape(2, "a bias", &[out]))
        .or_else(|| wrong_channels(operands, 1, inputs?, rank))
}

pub(super) fn pool(operands: &Operands<'_>) -> Option<String> {
    let Some(kernel) = operands.attribute("kernel_shape") else {
        return Some("has no window".to_owned());
    };
    let spatial = operands.rank(0).and_then(|rank| rank.checked_sub(2));
    if kernel.iter().any(|k| *k < 1) || spatial.is_some_and(|n| n != kernel.len()) {
        return Some(format!("has a window of {kernel:?}"));
    }
    wrong_window(operands, kernel.len())
}

pub(super) fn gemm(operands: &Operands<'_>) -> Option<String> {
    if let Some(slot) = (0..2).find(|slot| operands.rank(*slot).is_some_and(|rank| rank != 2)) {
        return Some(format!("multiplies input {slot}, which is not a matrix"));
    }
    let (turns_a, turns_b) = (operands.int("transA", 0) != 0, operands.int("transB", 0) != 0);
    let (left, right) =
        (operands.extent(0, usize::from(!turns_a)), operands.extent(1, usize::from(turns_b)));
    let constant = operands.constant(0).or_else(|| operands.constant(1)).is_some();
    if let (Some(left), Some(right), true) = (left, right, constant)
        && left != right
    {
        return Some(format!("multiplies {left} columns with {right} rows"));
    }
    let columns = operands.extent(1, usize::from(!turns_b))?;
    let addend = operands.constant(2)?;
    let fits = addend.len() <= 2 && addend.last().is_none_or(|n| *n == 1 || *n == columns);
    (!fits).then(|| format!("adds a constant of shape {addend:?} to {columns} columns"))
}

pub(super) fn matmul(operands: &Operands<'_>) -> Option<String> {
    product(operands, 0, 1)
}

pub(super) fn quantised_matmul(operands: &Operands<'_>) -> Option<String> {
    product(operands, 0, 3)
}

/// The fault of a product of these inputs.
fn product(operands: &Operands<'_>, a: usize, b: usize) -> Option<String> {
    let (left, right) = (operands.shape(a)?, operands.shape(b)?);
    if left.is_empty() || right.is_empty() {
        return Some("multiplies a scalar".to_owned());
    }
    let inner = if right.len() == 1 { 0 } else { right.len() - 2 };
    operands.constant(a).or_else(|| operands.constant(b))?;
    let (left, right) = (left.last()?.known()?, right.get(inner)?.known()?);
    (left != right).then(|| format!("multiplies {left} columns with {right} rows"))
}

/// Parameters with one entry per channel.
pub(super) fn per_channel(operands: &Operands<'_>) -> Option<String> {
    let channels = match operands.rank(0) {
        Some(1) => Some(1),
        _ => operands.extent(0, 1).or_else(|| operands.extent(1, 0)),
    };
    let names = [(1, "a scale"), (2, "a shift"), (3, "a mean"), (4, "a variance")];
    names.into_iter().find_map(|(slot, what)| operands.wrong_shape(slot, what, &[channels]))
}

/// One entry per channel or, in older operator sets, per group.
pub(super) fn group_norm(operands: &Operands<'_>) -> Option<String> {
    let groups = usize::try_from(operands.int("num_groups", 0)).ok().filter(|n| *n > 0);
    let Some(groups) = groups else { return Some("has no groups".to_owned()) };
    let channels = operands.extent(0, 1);
    if channels.is_some_and(|n| n % groups != 0) {
        return Some(format!("has {} channels in {groups} groups", channels.unwrap_or_default()));
    }
    [1, 2].into_iter().find_map(|slot| {
        let found = operands.constant(slot)?;
        let fits =
            matches!(found.as_slice(), [n] if *n == groups || channels.is_none_or(|c| c == *n));
        (!fits).then(|| format!("has parameters of shape {found:?} for {groups} groups"))
    })
}

pub(super) fn lstm(operands: &Operands<'_>) -> Option<String> {
    recurrent(operands, 4)
}

pub(super) fn gru(operands: &Operands<'_>) -> Option<String> {
    recurrent(operands, 3)
}

pub(super) fn rnn(operands: &Operands<'_>) -> Option<String> {
    recurrent(operands, 1)
}

fn recurrent(operands: &Operands<'_>, gates: usize) -> Option<String> {
    if operands.rank(0).is_some_and(|rank| rank != 3) {
        return Some("reads a value that does not have 3 axes".to_owned());
    }
    let both = operands.0.node.str("direction") == Some("bidirectional");
    let directions = Some(if both { 2 } else { 1 });
    let units = operands.extent(2, 2);
    let declared = usize::try_from(operands.int("hidden_size", 0)).ok().filter(|n| *n > 0);
    if let (Some(units), Some(declared)) = (units, declared)
        && units != declared
    {
        return Some(format!("has weights of {units} units and a size of {declared}"));
    }
    let rows = units.and_then(|units| units.checked_mul(gates));
    let twice = rows.and_then(|rows| rows.checked_mul(2));
    let peepholes = units.and_then(|units| units.checked_mul(3));
    let state = [directions, None, units];
    // With the batch first, states have their axes in another order.
    let states = operands.int("layout", 0) == 0;
    let cell = gates == 4;
    let wrong =
        |slot, what: &str, wanted: &[Option<usize>]| operands.wrong_shape(slot, what, wanted);
    wrong(1, "weights", &[directions, rows, operands.extent(0, 2)])
        .or_else(|| wrong(2, "recurrent weights", &[directions, rows, units]))
        .or_else(|| wrong(3, "biases", &[directions, twice]))
        .or_else(|| if states { wrong(5, "a state", &state) } else { None })
        .or_else(|| if states && cell { wrong(6, "a state", &state) } else { None })
        .or_else(|| if cell { wrong(7, "peepholes", &[directions, peepholes]) } else { None })
}

fn groups(operands: &Operands<'_>) -> Result<usize, String> {
    let groups = operands.int("group", 1);
    usize::try_from(groups).ok().filter(|n| *n > 0).ok_or_else(|| format!("has {groups} groups"))
}

/// The fault in the window of a weight of `rank` axes.
fn wrong_kernel(operands: &Operands<'_>, weight: usize, rank: usize) -> Option<String> {
    let Some(spatial) = rank.checked_sub(2).filter(|n| *n > 0) else {
        return Some(format!("has a weight of {rank} axes"));
    };
    if let Some(kernel) = operands.attribute("kernel_shape") {
        let extent = |i| operands.extent(weight, 2 + i).and_then(|n| i64::try_from(n).ok());
        let mut pairs = kernel.iter().enumerate();
        let fits = |(i, k): (usize, &i64)| extent(i).is_none_or(|n| n == *k);
        if kernel.len() != spatial || !pairs.all(fits) {
            return Some(format!("has a window of {kernel:?} that is not its weight's"));
        }
    }
    wrong_window(operands, spatial)
}

/// The fault in strides, dilations and padding over `spatial` axes.
fn wrong_window(operands: &Operands<'_>, spatial: usize) -> Option<String> {
    let lists =
        [("strides", spatial, 1), ("dilations", spatial, 1), ("output_padding", spatial, 0)];
    let wrong = |(name, count, least): (&str, usize, i64)| {
        let list = operands.attribute(name)?;
        let fits = list.len() == count && list.iter().all(|v| *v >= least);
        (!fits).then(|| format!("has {name} of {list:?} over {spatial} axes"))
    };
    lists.into_iter().find_map(wrong).or_else(|| wrong(("pads", 2 * spatial, i64::MIN)))
}

/// The fault of an operand without `wanted` channels and `rank` axes.
fn wrong_channels(
    operands: &Operands<'_>,
    weight: usize,
    wanted: usize,
    rank: usize,
) -> Option<String> {
    if operands.rank(0).is_some_and(|found| found != rank) {
        return Some(format!("has a weight of {rank} axes for a value of another number of axes"));
    }
    operands.constant(weight)?;
    let found = operands.extent(0, 1)?;
    (found != wanted).then(|| format!("reads {wanted} channels of a value that has {found}"))
}
