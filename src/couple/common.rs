//! Depths that all heads have in one order, since all heads meet the same values: the only head of keys and values in
//! multi-query attention, or a table of relative positions.

use super::atoms::Mark;
use super::heads::Kept;
use super::trace::{MOST_CHANNELS, Tracer};
use crate::ir::{Dim, NodeId, Tensor, ValueId};
use crate::ops::{
    CommonProduct, Expand, Flow, Labels, Operand, Partwise, aligned_axis, moved_ones, normal_axis,
};

/// Nodes between a product and the node that combines its result with values at most.
const LONGEST_WAY: usize = 4;

/// A node whose output gets channels on two axes.
struct Step {
    maker: NodeId,
    output: ValueId,
    /// The axes of heads and of depths.
    axes: [usize; 2],
    operands: Vec<Operand>,
}

impl Tracer<'_> {
    /// The flow of a product of each head with one matrix for all heads. A constant one may be a layer instead, unless
    /// heads must go on to be scores.
    pub(super) fn common_product(&mut self, id: NodeId, product: CommonProduct) -> Option<Flow> {
        let node = self.graph.node(id);
        let (value, other) = (node.input(product.operand)?, node.input(1 - product.operand)?);
        let own = self.labels[value.index()].clone()?;
        let theirs = self.labels[other.index()].clone();
        let width = self.depth(value, &own)?;
        let are_scores =
            || self.heads.are_used(&self.atoms, &own, width) || self.meets_values(value);
        let is_matrix = |tensor: &Tensor| tensor.dims.len() == 2 && product.operand == 0;
        if self.graph.initializer(other).is_some_and(is_matrix) && !are_scores() {
            return None;
        }
        let kept = Kept { order: false, common: product.of_each.is_none(), leads: true };
        let heads = self.heads.of(&mut self.atoms, id, &own, width, kept);
        let mut coupled = Vec::new();
        if let Some(theirs) = theirs {
            let known = self.heads.meet(&self.atoms, &own, width, &theirs.atoms);
            coupled.extend(known.map(|known| (known, theirs.atoms)));
        }
        let mut operands = vec![Operand::Channels; 2];
        operands[1 - product.operand] = match product.of_each {
            Some(heads) => Operand::Entries { heads, depths: product.depths },
            None => Operand::Depths { axis: product.depths },
        };
        let output = Labels::along(product.heads, heads);
        Some(Flow::Partwise(Partwise { output, operands, coupled, expand: Expand::NONE }))
    }

    /// The flow of a product of the scores of each head with values of one head. Its channels are pairs of a head and a
    /// depth, on two axes.
    pub(super) fn common_values(&mut self, id: NodeId) -> Option<Flow> {
        if !self.graph.node(id).is("MatMul") || self.closed.on_two_axes.contains(&id) {
            return None;
        }
        // Values on the right have depths as columns, those on the left as rows.
        let (scores, values, behind) = [(0, 1, 1), (1, 0, 2)]
            .into_iter()
            .find(|found| self.are_common(id, found.0, found.1, found.2).is_some())?;
        let node = self.graph.node(id);
        let labels = |slot: usize| self.labels[node.input(slot)?.index()].clone();
        let (heads, depths) = (labels(scores)?, labels(values)?);
        let count = heads.atoms.len().checked_mul(depths.atoms.len())?;
        if count > MOST_CHANNELS.min(self.room) {
            return None;
        }
        let rank = self.rank(node.input(scores)?)?;
        self.makers.insert(id.index() as u32, id);
        let atoms = self.atoms.fresh(count, Mark::Made(id.index() as u32));
        let output = Labels { axis: heads.axis, atoms, within: Some(rank - behind) };
        self.heads.pairs(id, &output, &heads.atoms, &depths.atoms);
        let mut operands = vec![Operand::Channels; 2];
        operands[values] = Operand::Depths { axis: depths.axis };
        let (coupled, expand) = (Vec::new(), Expand::NONE);
        Some(Flow::Partwise(Partwise { output, operands, coupled, expand }))
    }

    /// Begins depths at a product of the scores of each head with constants, as with relative positions of values, whose
    /// result is combined with channels `lead` on two axes. `value` is the result, perhaps with its axes moved.
    pub(super) fn begin_columns(
        &mut self,
        id: NodeId,
        value: ValueId,
        lead: &Labels,
        width: usize,
    ) {
        let Some(steps) = self.columns(value, lead, width) else { return };
        let is_common =
            |step: &Step| step.operands.iter().any(|role| matches!(role, Operand::Depths { .. }));
        let kept = Kept { order: false, common: steps.iter().any(is_common), leads: false };
        let own = self.heads.of(&mut self.atoms, id, lead, width, kept);
        let theirs = self.labels[value.index()].as_ref().map(|labels| labels.atoms.clone());
        for (a, b) in own.iter().zip(theirs.unwrap_or_default()) {
            self.atoms.unite(*a, b);
        }
        for Step { maker, output, axes: [axis, within], operands } in steps {
            let labels = Labels { axis, atoms: lead.atoms.clone(), within: Some(within) };
            self.labels[output.index()] = Some(labels.clone());
            let (coupled, expand) = (Vec::new(), Expand::NONE);
            let flow = Partwise { output: labels, operands, coupled, expand };
            self.flows.insert(maker, Flow::Partwise(flow));
        }
    }

    /// The nodes between a product with constants and a value that has one index per head, if the constants have one
    /// column per depth, and nothing else reads what they make.
    fn columns(&self, value: ValueId, lead: &Labels, width: usize) -> Option<Vec<Step>> {
        let (mut output, mut axes) =
            (value, [self.labels[value.index()].as_ref()?.axis, lead.within?]);
        let mut steps = Vec::new();
        let count = lead.atoms.len() / width.max(1);
        for _ in 0..LONGEST_WAY {
            let maker = self.graph.producer(output)?;
            let (node, rank) = (self.graph.node(maker), self.rank(output)?);
            let computed = |value: &ValueId| self.graph.initializer(*value).is_none();
            let source = node.inputs.iter().flatten().copied().find(computed)?;
            let known = matches!(self.flows.get(&maker), Some(Flow::Partwise(_)));
            let heads = self.labels[source.index()].as_ref().filter(|l| l.within.is_none())?;
            if !known || self.readers[output.index()].len() != 1 || heads.atoms.len() != count {
                return None;
            }
            match node.op.as_str() {
                "Transpose" => {
                    let operands = vec![Operand::Channels];
                    steps.push(Step { maker, output, axes, operands });
                    let perm = node.ints("perm")?;
                    let before = |axis: usize| normal_axis(*perm.get(axis)?, rank);
                    axes = [before(axes[0])?, before(axes[1])?];
                    output = source;
                }
                "Squeeze" | "Unsqueeze" => {
                    let operands = vec![Operand::Channels, Operand::Plain];
                    steps.push(Step { maker, output, axes, operands });
                    let shape =
                        |value: ValueId| self.graph.value(value).ty.as_ref()?.shape.as_ref();
                    let places = moved_ones(shape(source)?, shape(output)?)?;
                    let before = |axis: usize| places.get(axis).copied().flatten();
                    axes = [before(axes[0])?, before(axes[1])?];
                    output = source;
                }
                "Add" | "Sub" | "Mul" | "Div" if self.rank(source) == Some(rank) => {
                    let operands = self.entries(maker, source, axes, [count, width])?;
                    steps.push(Step { maker, output, axes, operands });
                    output = source;
                }
                "MatMul" => {
                    let operands = self.of_table(maker, axes, [count, width])?;
                    let fits = heads.axis == axes[0] && self.rank(source) == Some(rank);
                    steps.push(Step { maker, output, axes, operands });
                    return fits.then_some(steps);
                }
                _ => return None,
            }
        }
        None
    }

    /// The roles of scores and of a constant with one column per depth, whose product lies on `axes`. The constant has
    /// one matrix for all heads, or one for each.
    fn of_table(
        &self,
        id: NodeId,
        axes: [usize; 2],
        [count, width]: [usize; 2],
    ) -> Option<Vec<Operand>> {
        let node = self.graph.node(id);
        let rank = self.rank(node.output(0)?)?;
        let dims = &self.graph.initializer(node.input(1)?)?.dims;
        let depths = dims.len().checked_sub(1)?;
        let at = aligned_axis(axes[0], rank, dims.len()).filter(|_| axes[0] + 2 < rank);
        let of_each = at.filter(|axis| dims.get(*axis) != Some(&1));
        let fits = axes[1] + 1 == rank
            && dims.len() > 1
            && dims.last() == Some(&width)
            && of_each.is_none_or(|axis| dims.get(axis) == Some(&count));
        let table = match of_each {
            Some(heads) => Operand::Entries { heads, depths },
            None => Operand::Depths { axis: depths },
        };
        fits.then(|| vec![Operand::Channels, table])
    }

    /// The roles of a value and of a constant that a node combines element by element, where heads and depths lie on
    /// `axes` and have these extents.
    fn entries(
        &self,
        id: NodeId,
        value: ValueId,
        axes: [usize; 2],
        extents: [usize; 2],
    ) -> Option<Vec<Operand>> {
        let node = self.graph.node(id);
        let rank = self.rank(value)?;
        let role = |input: &Option<ValueId>| {
            let input = (*input)?;
            if input == value {
                return Some(Operand::Channels);
            }
            let dims = &self.graph.initializer(input)?.dims;
            let along = |place: usize| {
                let axis = aligned_axis(axes[place], rank, dims.len());
                axis.filter(|axis| dims.get(*axis) != Some(&1))
            };
            let fits = |place: usize| {
                along(place).is_none_or(|axis| dims.get(axis) == Some(&extents[place]))
            };
            (fits(0) && fits(1)).then(|| match (along(0), along(1)) {
                (Some(heads), Some(depths)) => Operand::Entries { heads, depths },
                (None, Some(axis)) => Operand::Depths { axis },
                (Some(axis), None) => Operand::Param { axis },
                (None, None) => Operand::Plain,
            })
        };
        node.inputs.iter().map(role).collect()
    }

    /// Whether a product combines scores of heads with values that all heads have in common, whose depths are `behind`
    /// axes from the end.
    fn are_common(&self, id: NodeId, scores: usize, values: usize, behind: usize) -> Option<()> {
        let node = self.graph.node(id);
        let (scores, values) = (node.input(scores)?, node.input(values)?);
        let labels = |value: ValueId| self.labels[value.index()].as_ref();
        let (heads, depths) = (labels(scores)?, labels(values)?);
        let shape = |value: ValueId| self.graph.value(value).ty.as_ref()?.shape.as_ref();
        let (shown, own) = (shape(scores)?, shape(values)?);
        let at = aligned_axis(heads.axis, shown.len(), own.len());
        let is_one_head = at.is_none_or(|axis| own.get(axis).and_then(Dim::known) == Some(1));
        let mut distinct: Vec<_> = depths.atoms.iter().map(|atom| self.atoms.root(*atom)).collect();
        distinct.sort_unstable();
        distinct.dedup();
        let fits = heads.within.is_none()
            && depths.within.is_none()
            && heads.axis + 2 < shown.len()
            && own.len() <= shown.len()
            && depths.axis + behind == own.len()
            && heads.atoms.len() > 1
            && distinct.len() == depths.atoms.len()
            && distinct.len() > 1;
        let is_made = depths.atoms.iter().all(|atom| self.atoms.is_produced(*atom));
        (fits && is_one_head && is_made && self.heads.are_heads(&self.atoms, &heads.atoms))
            .then_some(())
    }
}
