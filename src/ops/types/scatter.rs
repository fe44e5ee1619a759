//! Operators that write into a copy of their first input.

use super::{Rows, alike};

pub(super) const RULES: Rows =
    &[(&["Scatter", "ScatterElements", "ScatterND", "TensorScatter"], alike)];
