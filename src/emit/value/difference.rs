//! Weights that are sums of a common part and a difference in few bits.

use crate::emit::recipe::Placed;
use crate::emit::scope::Scope;
use crate::emit::task::TaskEmitter;
use crate::ir::{Tensor, ValueId};
use crate::mtz::joint::{Difference, Owner, added};

use super::block::{cut, cut_codes};

type Parts = [(usize, Vec<usize>)];

impl TaskEmitter<'_> {
    /// Writes a block of a weight as the sum that it is; `None` if it is none.
    pub(super) fn place_sum(
        &mut self,
        source: ValueId,
        block: &Tensor,
        parts: &Parts,
    ) -> Option<ValueId> {
        let based = self.joint.based(self.task, source)?;
        let base = cut(&based.base, parts)?;
        let difference = match &based.difference {
            Some(Difference { floats, codes }) => {
                Some((cut(floats, parts)?, cut_codes(codes, parts)?))
            }
            None => None,
        };
        let sum = match &difference {
            Some((floats, _)) => added(&base, floats)?,
            None => base.clone(),
        };
        if sum != *block {
            return None;
        }
        let base_name = &self.graph().value(source).name;
        let owners = Owner::Tasks(self.joint.base_tasks(based.number));
        let name = self.name(&owners, base_name);
        let scope = self.builder.untied.then_some(Scope::Base(based.number));
        let target = self.builder.constant_in(scope, &name, base);
        let name = self.name(&Owner::Tasks(vec![self.task]), base_name);
        let plus = difference.map(|(floats, codes)| {
            let plus = self.builder.constant(&format!("{name}.difference"), floats);
            self.builder.graph.set_codes(plus, codes);
            plus
        });
        let value = match plus {
            Some(plus) => self.builder.op("Add", &name, &[target, plus], []),
            None => target,
        };
        let placed = Placed::at(target, self.task.0, source, parts.to_vec());
        self.builder.placed.push(Placed { plus, ..placed });
        Some(value)
    }
}
