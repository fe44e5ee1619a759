//! Stores blocks of a net's constants as initializers of the joint graph.

use crate::emit::recipe::Placed;
use crate::emit::task::TaskEmitter;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::{Attribute, Codes, Tensor, ValueId, ValueKind};
use crate::mtz::joint::Owner;

/// A block of a constant, to be stored together with others.
pub(crate) struct Stacked {
    pub(crate) source: ValueId,
    /// Axis and indices along it.
    pub(crate) parts: Vec<(usize, Vec<usize>)>,
}

impl TaskEmitter<'_> {
    /// The entries of a per-channel constant that belong to `positions`.
    pub(crate) fn param(
        &mut self,
        source: ValueId,
        axis: usize,
        owner: &Owner,
        positions: &[usize],
    ) -> Result<ValueId> {
        let value = self.graph().value(source);
        // Parameters that apply to model inputs belong to one task.
        let own = Owner::Tasks(vec![self.task]);
        let owner = if *owner == Owner::Input { &own } else { owner };
        match &value.kind {
            ValueKind::Initializer(_) => self.block(source, &[(axis, positions)], owner),
            _ => self.whole(source),
        }
    }

    /// A block of a constant of the task's net: some indices along some axes.
    pub(crate) fn block(
        &mut self,
        source: ValueId,
        parts: &[(usize, &[usize])],
        owner: &Owner,
    ) -> Result<ValueId> {
        let Some(tensor) = self.graph().initializer(source) else { return self.whole(source) };
        let block = cut(tensor, parts).ok_or_else(unusual)?;
        let parts = parts.iter().map(|(axis, positions)| (*axis, positions.to_vec())).collect();
        Ok(self.place(source, block, parts, owner))
    }

    /// Concatenates blocks of several constants along the first axis into one initializer.
    pub(crate) fn stack(
        &mut self,
        blocks: &[Stacked],
        name: &str,
        owner: &Owner,
    ) -> Result<ValueId> {
        let (mut stacked, mut start) = (Vec::new(), 0);
        let (mut placed, mut all_codes) = (Vec::new(), Vec::new());
        for Stacked { source, parts } in blocks {
            let Some(tensor) = self.graph().initializer(*source) else { return Err(unusual()) };
            let block = cut(tensor, parts).ok_or_else(unusual)?;
            let codes = self.stored_codes(*source, parts);
            let rows = *block.dims.first().ok_or_else(unusual)?;
            all_codes.push(codes.map(|codes| (codes, rows)));
            placed.push((*source, parts.clone(), start));
            start += rows;
            stacked.push(block);
        }
        let name = self.name(owner, name);
        let stacked = Tensor::joined(&stacked.iter().collect::<Vec<_>>(), 0);
        let target = self.builder.constant(&name, stacked.ok_or_else(unusual)?);
        let all_codes = all_codes.iter().map(|own| own.as_ref().map(|(codes, n)| (codes, *n)));
        let all_codes: Option<Vec<(&Codes, usize)>> = all_codes.collect();
        if let Some(codes) = all_codes.and_then(|all| Codes::joined(&all, 0)) {
            self.builder.store_in(target, codes);
        }
        let task = self.task.0;
        let placed = placed.into_iter().map(|(source, parts, start)| Placed {
            start,
            ..Placed::at(target, task, source, parts)
        });
        self.builder.placed.extend(placed);
        Ok(target)
    }

    /// The codes with which a block of a constant is stored.
    fn stored_codes(&self, source: ValueId, parts: &[(usize, Vec<usize>)]) -> Option<Codes> {
        // Parameters to be trained stay floats.
        let codes = self.graph().codes(source).filter(|_| !self.builder.untied)?;
        cut_codes(codes, parts)
    }

    /// Stores a block, and records its source.
    pub(crate) fn place(
        &mut self,
        source: ValueId,
        block: Tensor,
        parts: Vec<(usize, Vec<usize>)>,
        owner: &Owner,
    ) -> ValueId {
        let name = self.name(owner, &self.graph().value(source).name);
        if let Some(value) = self.place_sum(source, &block, &parts) {
            return value;
        }
        let scope = self.builder.untied.then(|| self.scope(source, &parts, owner)).flatten();
        let swapped = self.builder.swapped(&block);
        let (target, value) = match swapped {
            Some(target) => {
                let order = [("perm", Attribute::Ints(vec![1, 0]))];
                (target, self.builder.op("Transpose", &name, &[target], order))
            }
            None => {
                let codes = self.stored_codes(source, &parts);
                let target = self.builder.constant_in(scope, &name, block);
                if let Some(codes) = codes {
                    self.builder.store_in(target, codes);
                }
                (target, target)
            }
        };
        let transposed = swapped.is_some();
        let placed = Placed::at(target, self.task.0, source, parts);
        self.builder.placed.push(Placed { transposed, ..placed });
        value
    }
}

/// A block of a constant: some indices along some axes; `None` if it has none of them.
pub(super) fn cut<P: AsRef<[usize]>>(tensor: &Tensor, parts: &[(usize, P)]) -> Option<Tensor> {
    parts.iter().try_fold(tensor.clone(), |tensor, (axis, at)| tensor.select(*axis, at.as_ref()))
}

/// The codes of a block of a constant; `None` if it cuts theirs apart.
pub(super) fn cut_codes(codes: &Codes, parts: &[(usize, Vec<usize>)]) -> Option<Codes> {
    parts.iter().try_fold(codes.clone(), |codes, (axis, at)| codes.select(*axis, at))
}

fn unusual() -> Error {
    Error::new(ErrorKind::Unsupported, "a parameter of unusual type or shape")
}
