//! Pairs channels by what reads them, where what makes them says nothing; see [`super::bridge`].

use std::collections::HashMap;

use ndarray::{Array2, Array3};

use crate::couple::GroupId;
use crate::error::{Context, Result};

use super::bridge::{Gap, Shore, Standing, close, connect, pixels, readers};
use super::likeness::{paired, unlikeness};
use super::matcher::Share;
use super::members::{Member, class_members, common_neurons};
use super::run::Zip;

impl Zip<'_> {
    /// Pairs the inputs of the layers at a site that nothing else pairs.
    pub(super) fn bridge(&mut self, place: usize) -> Result<()> {
        let members = readers(self.joint, self.alignment, &self.alignment.sites[place]);
        if !members.iter().all(|m| self.fits(m.task, &m.layer)) {
            return Ok(());
        }
        loop {
            let standing = Standing {
                joint: self.joint,
                alignment: self.alignment,
                settled: &self.paired,
                making: &self.making,
                budget: &self.options.budget,
                place,
            };
            let Some(gap) = standing.gap(&members) else { return Ok(()) };
            let pairs = self.alike(&members, &gap).at_node(&members[0].layer.name)?;
            close(self.joint, &mut self.paired, &members, &gap, &pairs);
        }
    }

    /// Pairs the channels of a correspondence that are read before they are made by what reads them, as
    /// something to begin with. Depthwise layers make what they read, and say more than that.
    pub(super) fn pair_by_readers(
        &mut self,
        groups: &[(usize, GroupId)],
        reader: usize,
    ) -> Result<()> {
        let members = class_members(self.joint, self.alignment, &self.alignment.sites[reader]);
        if members.iter().any(|m| m.layer.per_channel) {
            return Ok(());
        }
        let shore = |(task, group): &(usize, GroupId)| {
            let member = members.iter().position(|m| m.task == *task)?;
            let size = self.joint.tasks[*task].coupling.group(*group).size;
            let reads = pixels(&members[member], *group)?;
            Some((Shore { member, group: *group, channels: (0..size).collect() }, reads))
        };
        let shores: Vec<(Shore, usize)> = groups.iter().filter_map(shore).collect();
        let Some(((known, reads), others)) = shores.split_first() else { return Ok(()) };
        for (open, _) in others.iter().filter(|(_, own)| own == reads) {
            if self.paired.together(known.place(&members), open.place(&members)) {
                continue;
            }
            let most = known.channels.len().min(open.channels.len());
            let gap = Gap { known: known.clone(), open: open.clone(), most };
            let pairs = self.alike(&members, &gap)?;
            connect(self.joint, &members, &gap, &pairs);
        }
        Ok(())
    }

    /// The channels of a gap, pair by pair, that do the most similar work in the layers that read them.
    fn alike(&self, members: &[Member], gap: &Gap) -> Result<Vec<(usize, usize)>> {
        let shores = [&gap.known, &gap.open];
        let [a, b] = shores.map(|shore| self.read_weights(&members[shore.member], shore));
        let readers = shores.map(|shore| members[shore.member].clone());
        let neurons = common_neurons(self.joint, &readers).into_iter();
        let pair = |rows: Vec<(usize, usize)>| Some((rows.first()?.1, rows.get(1)?.1));
        let mut rows: Vec<(usize, usize)> = neurons.filter_map(pair).collect();
        // Sums over rows come out the same whatever the neurons are numbered.
        rows.sort_unstable();
        let rows = (!rows.is_empty()).then_some(rows.as_slice());
        paired(&unlikeness(&a?, &b?, rows)?, Share::Count(gap.most))
    }

    /// The weights of a layer for channels that it reads: [channels, rows, weights of each].
    fn read_weights(&self, member: &Member, shore: &Shore) -> Result<Array3<f32>> {
        let matrix: Array2<f32> = self.weights(member.task, &member.layer)?;
        let inputs = member.layer.inputs.as_deref().unwrap_or_default();
        let taps = (matrix.ncols() - 1) / inputs.len().max(1);
        let mut columns: HashMap<usize, Vec<usize>> = HashMap::new();
        for (at, channel) in inputs.iter().enumerate().filter(|(_, c)| c.group == shore.group) {
            columns.entry(channel.index).or_default().extend(at * taps..(at + 1) * taps);
        }
        let of = |channel: &usize| columns.get(channel).map_or(&[][..], Vec::as_slice);
        let each = shore.channels.iter().map(|c| of(c).len()).max().unwrap_or(0);
        let shape = (shore.channels.len(), matrix.nrows(), each);
        Ok(Array3::from_shape_fn(shape, |(channel, row, n)| {
            of(&shore.channels[channel]).get(n).map_or(0.0, |column| matrix[(row, *column)])
        }))
    }
}
