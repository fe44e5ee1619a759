//! Codes of blocks whose entries lie in another order than those of the constant.

use std::collections::BTreeSet;

use super::Codes;
use crate::ir::tensor::Tensor;

/// Most places of stored integers for each index that is used.
const MOST_STORED: usize = 4;

impl Codes {
    /// The codes of single indices of blocks, each of which is picked once. The blocks stay as they are stored.
    pub(super) fn scattered(&self, positions: &[usize]) -> Option<Codes> {
        let extent = self.stored_extent()?;
        let place = |index: &usize| match &self.places {
            Some(places) => places.get(*index).copied(),
            None => Some(*index).filter(|index| *index < extent),
        };
        let places: Vec<usize> = positions.iter().map(place).collect::<Option<_>>()?;
        let distinct: BTreeSet<&usize> = places.iter().collect();
        let is_worth = extent / MOST_STORED <= places.len() && distinct.len() == places.len();
        let is_all = places.iter().copied().eq(0..extent);
        let places = if is_all { None } else { Some(places) };
        let codes = Codes { places, ..self.clone() };
        let direct = codes.direct && codes.is_in_order();
        is_worth.then_some(Codes { direct, ..codes })
    }

    /// The number of places along `axis`, where there are blocks of known size.
    fn stored_extent(&self) -> Option<usize> {
        let blocks = self.scale.dims.get(self.axis)?;
        self.block.checked_mul(*blocks).filter(|extent| *extent > 0 && self.is_blocked())
    }

    /// Whether the integers are stored in the order of the indices. The last block may have fewer than the others.
    pub(crate) fn is_in_order(&self) -> bool {
        let blocks = self.scale.dims.get(self.axis).copied();
        self.places.as_ref().is_none_or(|places| {
            let is_all = self.block > 0 && Some(places.len().div_ceil(self.block)) == blocks;
            is_all && places.iter().copied().eq(0..places.len())
        })
    }

    /// Integers as they are stored, where indices have other places; those that no index has are any.
    pub(crate) fn in_places(&self, numbers: &Tensor) -> Option<Tensor> {
        let (places, extent) = (self.places.as_ref()?, self.stored_extent()?);
        let own = *numbers.dims.get(self.axis)?;
        let mut index_of = vec![0; Some(extent).filter(|n| n / MOST_STORED <= own)?];
        for (index, place) in places.iter().enumerate() {
            *index_of.get_mut(*place)? = index;
        }
        numbers.select(self.axis, &index_of)
    }

    /// The blocks in `positions`, if these are whole blocks.
    pub(super) fn blocks(&self, positions: &[usize]) -> Option<Vec<usize>> {
        let count = *self.scale.dims.get(self.axis).filter(|_| self.places.is_none())?;
        let size = match self.block {
            0 => positions.len().checked_div(count).filter(|size| *size > 0)?,
            size => size,
        };
        let block = |block: &[usize]| {
            let first = *block.first()?;
            let is_run = block.iter().enumerate().all(|(i, place)| *place == first + i);
            (is_run && first % size == 0 && block.len() == size).then_some(first / size)
        };
        positions.chunks(size).map(block).collect()
    }
}
