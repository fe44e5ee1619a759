//! Orders the heads of queries that share a head of keys and values.
//!
//! Such heads are paired as one block, whose channels keep their order, since a copy of a head of keys is no channel of
//! its own. Neither the order of the heads in a block nor that of their depths means anything, unless tables of positions
//! tell depths apart. So a net gets the order of the most similar heads and depths of an earlier net before anything is
//! merged. Columns of weights are not paired yet, so weights are compared in the order of their size.

mod families;

use std::collections::BTreeMap;

use ndarray::{Array2, Array3};

use crate::canon::Canonical;
use crate::couple::{Coupling, LayerId};
use crate::error::Result;
use crate::ir::{Graph, Tensor, ValueId};
use crate::mtz::matching::{Matcher, Optimal, Share};

use families::{Family, Place, families};

/// Numbers by which heads and depths are compared at most.
const MOST_NUMBERS: usize = 256;

/// The cosine of weights from which on they are of one descent and keep their order.
const CLOSE: f64 = 0.44;

/// The net with the heads of queries that share a head of keys in the order of `other`, an earlier net.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if a graph has a cycle, or weights that cannot be read.
pub(crate) fn heads_like(other: &Graph, mut model: Canonical) -> Result<Canonical> {
    let own = Weights::of(&model.graph)?;
    if own.families.is_empty() {
        return Ok(model);
    }
    let theirs = Weights::of(other)?;
    let mut constants = BTreeMap::new();
    for (first, second) in theirs.families.iter().zip(&own.families) {
        let is_alike = first.group_of == second.group_of && first.width == second.width;
        if !is_alike || theirs.are_close(first, &own, second)? {
            continue;
        }
        let orders = Orders::new((&theirs, first), (&own, second))?;
        orders.apply(&model.graph, second, &mut constants);
    }
    model = model.with_constants(constants.into_iter().collect());
    Ok(model)
}

/// A net's families, and its weights.
struct Weights<'a> {
    graph: &'a Graph,
    coupling: Coupling,
    families: Vec<Family>,
}

impl<'a> Weights<'a> {
    fn of(graph: &'a Graph) -> Result<Weights<'a>> {
        let coupling = Coupling::of(graph)?;
        let families = families(graph, &coupling)?;
        Ok(Weights { graph, coupling, families })
    }

    fn read(&self, layer: LayerId) -> Result<Array3<f32>> {
        self.coupling.layer(layer).layer.read(self.graph)
    }

    /// The rows of a family's queries and keys.
    fn described(&self, family: &Family) -> Result<[Described; 2]> {
        let (queries, keys) = (self.read(family.queries)?, self.read(family.keys)?);
        Ok([Described::of(&queries), Described::of(&keys)])
    }

    /// Whether the queries of two nets are close at the same indices.
    fn are_close(&self, own: &Family, other: &Weights<'_>, theirs: &Family) -> Result<bool> {
        let (a, b) = (self.read(own.queries)?, other.read(theirs.queries)?);
        if a.dim() != b.dim() {
            return Ok(true);
        }
        let product = |x: &Array3<f32>, y: &Array3<f32>| -> f64 {
            x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
        };
        Ok(product(&a, &b) >= CLOSE * (product(&a, &a) * product(&b, &b)).sqrt())
    }
}

/// Some rows by which heads and depths are compared, each as its numbers in the order of their size.
struct Described {
    rows: Vec<Vec<f32>>,
}

impl Described {
    fn of(weights: &Array3<f32>) -> Described {
        let sorted = |row: ndarray::ArrayView2<f32>| {
            let mut numbers: Vec<f32> = row.iter().copied().collect();
            numbers.sort_unstable_by(f32::total_cmp);
            thinned(&numbers)
        };
        Described { rows: weights.outer_iter().map(sorted).collect() }
    }

    /// The numbers of several rows, whose order counts only where it `is_kept`.
    fn block(&self, rows: std::ops::Range<usize>, is_kept: bool) -> Vec<f32> {
        let mut numbers = self.rows.get(rows).unwrap_or_default().concat();
        if !is_kept {
            numbers.sort_unstable_by(f32::total_cmp);
        }
        thinned(&numbers)
    }
}

/// At most so many numbers, at equal distances.
fn thinned(numbers: &[f32]) -> Vec<f32> {
    let count = numbers.len().min(MOST_NUMBERS);
    (0..count).map(|at| numbers[at * numbers.len() / count]).collect()
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(x - y).powi(2)).sum()
}

/// The best pairs: for each row, the column.
fn paired(costs: &Array2<f64>) -> Result<Vec<usize>> {
    let found = Optimal.pair(costs.view(), Share::Fraction(1.0))?;
    let mut order: Vec<usize> = (0..costs.nrows()).collect();
    found.pairs().iter().for_each(|(to, from)| order[*to] = *from);
    Ok(order)
}

/// The order of the depths of the second of two groups in which they are most like those of the first, with these pairs of
/// heads of queries.
fn depths_of(
    [a, b]: [&[Described; 2]; 2],
    (to, from): (usize, usize),
    pairs: &[(usize, usize)],
    width: usize,
) -> Result<Vec<usize>> {
    let apart = |side: usize, (to, from): (usize, usize), (place, depth): (usize, usize)| {
        let rows = (&a[side].rows[to * width + place], &b[side].rows[from * width + depth]);
        distance(rows.0, rows.1)
    };
    let cost = |places: (usize, usize)| {
        let of_heads: f64 = pairs.iter().map(|heads| apart(0, *heads, places)).sum();
        of_heads + apart(1, (to, from), places)
    };
    paired(&Array2::from_shape_fn((width, width), cost))
}

/// Where the heads and depths of a net come from: for each place, the head or depth that is there now.
struct Orders {
    heads: Vec<usize>,
    /// Those of each group.
    depths: Vec<Vec<usize>>,
}

impl Orders {
    /// The orders of the second family in which it is most like the first.
    fn new(
        (theirs, first): (&Weights<'_>, &Family),
        (own, second): (&Weights<'_>, &Family),
    ) -> Result<Orders> {
        let width = second.width;
        let is_kept = !(first.has_free_depths && second.has_free_depths);
        let (a, b) = (theirs.described(first)?, own.described(second)?);
        let block = |all: &Described, at: usize| all.block(at * width..(at + 1) * width, is_kept);
        let groups = second.groups();
        let mut inside = Vec::new();
        let mut costs = Array2::zeros((groups.len(), groups.len()));
        for ((to, from), total) in costs.indexed_iter_mut() {
            let cost = |(i, j): (usize, usize)| {
                distance(&block(&a[0], groups[to][i]), &block(&b[0], groups[from][j]))
            };
            let heads = Array2::from_shape_fn((groups[to].len(), groups[from].len()), cost);
            let order = paired(&heads)?;
            *total = order.iter().enumerate().map(|(i, j)| heads[(i, *j)]).sum::<f64>()
                + distance(&block(&a[1], to), &block(&b[1], from));
            inside.push(order);
        }
        let mut heads: Vec<usize> = (0..second.group_of.len()).collect();
        let mut depths: Vec<Vec<usize>> = vec![(0..width).collect(); groups.len()];
        for (to, from) in paired(&costs)?.into_iter().enumerate() {
            let order = &inside[to * groups.len() + from];
            let pairs = order.iter().enumerate().map(|(i, j)| (groups[to][i], groups[from][*j]));
            let pairs: Vec<(usize, usize)> = pairs.collect();
            groups[from].iter().zip(&pairs).for_each(|(head, (_, source))| heads[*head] = *source);
            if !is_kept {
                depths[from] = depths_of([&a, &b], (to, from), &pairs, width)?;
            }
        }
        Ok(Orders { heads, depths })
    }

    /// Moves heads and depths in all constants of a family.
    fn apply(&self, graph: &Graph, family: &Family, constants: &mut BTreeMap<ValueId, Tensor>) {
        let width = family.width;
        let inside = |group: usize| self.depths[group].iter();
        let queries = self
            .heads
            .iter()
            .flat_map(|head| inside(family.group_of[*head]).map(move |depth| head * width + depth));
        let queries: Vec<usize> = queries.collect();
        let groups = 0..self.depths.len();
        let keys = groups.flat_map(|group| inside(group).map(move |depth| group * width + depth));
        let keys: Vec<usize> = keys.collect();
        let mut moved = |place: &Place, order: &[usize]| {
            let known = constants.get(&place.value).or_else(|| graph.initializer(place.value));
            if let Some(tensor) = known.and_then(|tensor| tensor.select(place.axis, order)) {
                constants.insert(place.value, tensor);
            }
        };
        family.of_queries.iter().for_each(|place| moved(place, &queries));
        family.of_keys.iter().for_each(|place| moved(place, &keys));
        for place in &family.others {
            let entries = |head: &usize| head * place.width..(head + 1) * place.width;
            let order: Vec<usize> = self.heads.iter().flat_map(entries).collect();
            moved(place, &order);
        }
    }
}
