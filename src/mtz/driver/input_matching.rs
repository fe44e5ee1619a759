//! Pairs channels by what reads them, where what makes them says nothing; see [`crate::mtz::plan`].

use std::collections::HashMap;

use ndarray::{Array2, Array3};

use crate::couple::GroupId;
use crate::error::{Context, Result};
use crate::mtz::matching::{Share, dissimilarity, least_cost_pairs};
use crate::mtz::plan::{
    InputGroup, PlanState, UnmatchedInputs, consumers, settle_inputs, share_inputs,
};
use crate::mtz::site::{SiteLayer, common_neurons, corresponding_layers};

use super::Driver;

impl Driver<'_> {
    /// Pairs the inputs of the layers at a site that nothing else pairs.
    pub(super) fn match_inputs(&mut self, place: usize) -> Result<()> {
        let members = consumers(self.joint, self.alignment, &self.alignment.sites[place]);
        if !members.iter().all(|m| self.fits(m.task, &m.layer)) {
            return Ok(());
        }
        loop {
            let state = PlanState {
                joint: self.joint,
                alignment: self.alignment,
                settled: &self.settled,
                producers: &self.producers,
                budget: &self.options.budget,
                place,
            };
            let Some(unmatched) = state.unmatched(&members) else { return Ok(()) };
            let pairs =
                self.similar_inputs(&members, &unmatched).at_node(&members[0].layer.name)?;
            settle_inputs(self.joint, &mut self.settled, &members, &unmatched, &pairs);
        }
    }

    /// Pairs the channels of a correspondence that are read before they are made by what reads them, as
    /// something to begin with. Depthwise layers make what they read, and say more than that.
    pub(super) fn pair_by_consumers(
        &mut self,
        groups: &[(usize, GroupId)],
        consumer: usize,
    ) -> Result<()> {
        let members =
            corresponding_layers(self.joint, self.alignment, &self.alignment.sites[consumer]);
        if members.iter().any(|m| m.layer.per_channel) {
            return Ok(());
        }
        let input_group = |(task, group): &(usize, GroupId)| {
            let member = members.iter().position(|m| m.task == *task)?;
            let size = self.joint.tasks[*task].coupling.group(*group).size;
            let reads = members[member].pixels(*group)?;
            Some((InputGroup { member, group: *group, channels: (0..size).collect() }, reads))
        };
        let input_groups: Vec<(InputGroup, usize)> =
            groups.iter().filter_map(input_group).collect();
        let Some(((known, reads), others)) = input_groups.split_first() else { return Ok(()) };
        for (open, _) in others.iter().filter(|(_, own)| own == reads) {
            if self.settled.settled_together(known.place(&members), open.place(&members)) {
                continue;
            }
            let most = known.channels.len().min(open.channels.len());
            let unmatched = UnmatchedInputs { known: known.clone(), open: open.clone(), most };
            let pairs = self.similar_inputs(&members, &unmatched)?;
            share_inputs(self.joint, &members, &unmatched, &pairs);
        }
        Ok(())
    }

    /// Pairs of unmatched inputs that do the most similar work in the layers that read them.
    fn similar_inputs(
        &self,
        members: &[SiteLayer],
        unmatched: &UnmatchedInputs,
    ) -> Result<Vec<(usize, usize)>> {
        let input_groups = [&unmatched.known, &unmatched.open];
        let [a, b] = input_groups
            .map(|input_group| self.input_weights(&members[input_group.member], input_group));
        let consumers = input_groups.map(|input_group| members[input_group.member].clone());
        let neurons = common_neurons(self.joint, &consumers).into_iter();
        let pair = |rows: Vec<(usize, usize)>| Some((rows.first()?.1, rows.get(1)?.1));
        let mut rows: Vec<(usize, usize)> = neurons.filter_map(pair).collect();
        // Sums over rows come out the same whatever the neurons are numbered.
        rows.sort_unstable();
        let rows = (!rows.is_empty()).then_some(rows.as_slice());
        least_cost_pairs(&dissimilarity(&a?, &b?, rows)?, Share::Count(unmatched.most))
    }

    /// The weights of a layer for channels that it reads: [channels, rows, weights of each].
    fn input_weights(&self, member: &SiteLayer, input_group: &InputGroup) -> Result<Array3<f32>> {
        let matrix: Array2<f32> = self.weights(member.task, &member.layer)?;
        let inputs = member.layer.inputs.as_deref().unwrap_or_default();
        let taps = (matrix.ncols() - 1) / inputs.len().max(1);
        let mut columns: HashMap<usize, Vec<usize>> = HashMap::new();
        for (at, channel) in inputs.iter().enumerate().filter(|(_, c)| c.group == input_group.group)
        {
            columns.entry(channel.index).or_default().extend(at * taps..(at + 1) * taps);
        }
        let of = |channel: &usize| columns.get(channel).map_or(&[][..], Vec::as_slice);
        let each = input_group.channels.iter().map(|c| of(c).len()).max().unwrap_or(0);
        let shape = (input_group.channels.len(), matrix.nrows(), each);
        Ok(Array3::from_shape_fn(shape, |(channel, row, n)| {
            of(&input_group.channels[channel]).get(n).map_or(0.0, |column| matrix[(row, *column)])
        }))
    }
}
