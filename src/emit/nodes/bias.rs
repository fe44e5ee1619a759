//! Biases of layers: common to several tasks, or one task's own beside common weights.

use crate::couple::LayerId;
use crate::emit::task::TaskEmitter;
use crate::emit::value::partition::Part;
use crate::ir::{Tensor, ValueId};
use crate::mtz::joint::Owner;
use crate::ops::{Layer, LayerKind};

/// The place at which the biases of some rows are added.
#[derive(Default)]
pub(crate) struct Bias {
    /// As the bias input of the first product.
    pub(crate) within: Option<ValueId>,
    /// As a further term of the sum.
    pub(crate) beside: Option<ValueId>,
}

impl TaskEmitter<'_> {
    /// The tasks that have the biases of some rows of layer `id` in common.
    pub(crate) fn bias_owner(&self, id: Option<LayerId>, rows: &Owner) -> Owner {
        match id.is_none_or(|id| self.common_biases.contains(&id)) {
            true => self.common(id, rows, &Owner::Input),
            false => Owner::Tasks(vec![self.task]),
        }
    }

    /// Whether all of these entries of a bias are 0, so that no bias is written. Canonical form adds
    /// such biases. A model to be trained keeps them.
    pub(crate) fn adds_nothing(&self, bias: ValueId, rows: &[usize]) -> bool {
        let entries = self.graph().initializer(bias).and_then(|bias| bias.select(0, rows));
        !self.builder.untied && entries.is_some_and(|e| e.data.iter().all(|byte| *byte == 0))
    }

    /// Places biases of `owner` at rows of layer `id`. A product that is common to tasks must not
    /// contain a bias of one task.
    pub(crate) fn placed_bias(
        &mut self,
        (id, layer): (Option<LayerId>, &Layer),
        rows: &Part,
        bias: Option<(ValueId, Owner)>,
        name: &str,
    ) -> Bias {
        let Some((value, owner)) = bias else { return Bias::default() };
        if layer.addition.is_some() {
            // Zero biases need no `Add`, except in training, which may change them.
            let idle =
                !self.builder.untied && self.builder.graph.initializer(value).is_some_and(is_zero);
            return Bias { within: None, beside: (!idle).then_some(value) };
        }
        let is_sum = self.sums.is_some() && rows.first.is_some() && self.fused(id).is_some();
        if !is_sum || owner == rows.owner {
            return Bias { within: Some(value), beside: None };
        }
        let name = self.name(&rows.owner, name);
        Bias { within: None, beside: Some(self.along_channels(layer, value, &name)) }
    }

    /// One number per channel, as a tensor that broadcasts over the layer's output.
    fn along_channels(&mut self, layer: &Layer, values: ValueId, name: &str) -> ValueId {
        let (LayerKind::Conv(window) | LayerKind::ConvTranspose(window)) = &layer.kind else {
            return values;
        };
        let axes: Vec<i64> = (1..=window.kernel.len() as i64).collect();
        let axes = Tensor::from_i64(vec![axes.len()], &axes);
        let axes = self.builder.constant(&format!("{name}.axes"), axes);
        self.builder.op("Unsqueeze", &format!("{name}.bias"), &[values, axes], [])
    }
}

fn is_zero(tensor: &Tensor) -> bool {
    tensor.data.iter().all(|byte| *byte == 0)
}
