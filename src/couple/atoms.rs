//! Channels as equivalence classes: a union–find over the atoms that operators declare equal.

use crate::ir::ValueId;
use crate::ops::Atom;

/// Disjoint sets of atoms, each with the marks of its producers, consumers and reason to be frozen.
#[derive(Debug, Default)]
pub(super) struct Atoms {
    parent: Vec<u32>,
    marks: Vec<Vec<Mark>>,
    frozen: Vec<Option<u32>>,
}

/// A property that separates channels of different groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Mark {
    /// Fed from input number `.0` of the graph.
    Input(u32),
    /// Of a value that is computed from inputs of the graph without any layer.
    Unlearned(ValueId),
    /// Produced by layer number `.0`.
    Produced(u32),
    /// Consumed by layer number `.0`.
    Consumed(u32),
    /// Picked into output `.1` of node `.0`, which splits channels.
    Picked(u32, u32),
    /// Begins at node `.0`, which is not a layer.
    Made(u32),
}

impl Atoms {
    /// `n` new atoms, all with `mark`.
    pub(super) fn fresh(&mut self, n: usize, mark: Mark) -> Vec<Atom> {
        let first = self.parent.len() as u32;
        let atoms: Vec<Atom> = (first..first + n as u32).map(Atom).collect();
        self.parent.extend(first..first + n as u32);
        self.marks.resize(self.parent.len(), vec![mark]);
        self.frozen.resize(self.parent.len(), None);
        atoms
    }

    /// Number of atoms.
    pub(super) fn len(&self) -> usize {
        self.parent.len()
    }

    /// The smallest atom of the set that holds `atom`.
    pub(super) fn root(&self, atom: Atom) -> Atom {
        let mut at = atom.0;
        while self.parent[at as usize] != at {
            at = self.parent[at as usize];
        }
        Atom(at)
    }

    /// As [`Atoms::root`], with path compression.
    fn find(&mut self, atom: Atom) -> Atom {
        let root = self.root(atom);
        let mut at = atom.0;
        while self.parent[at as usize] != root.0 {
            at = std::mem::replace(&mut self.parent[at as usize], root.0);
        }
        root
    }

    /// Makes two atoms the same channel.
    pub(super) fn unite(&mut self, a: Atom, b: Atom) {
        let (a, b) = (self.find(a), self.find(b));
        if a == b {
            return;
        }
        let (low, high) = (a.min(b).0 as usize, a.max(b).0 as usize);
        self.parent[high] = low as u32;
        let marks = std::mem::take(&mut self.marks[high]);
        self.marks[low].extend(marks);
        let frozen = self.frozen[high].take();
        self.frozen[low] = match (self.frozen[low], frozen) {
            (Some(x), Some(y)) => Some(x.min(y)),
            (x, y) => x.or(y),
        };
    }

    /// Whether only model inputs produce the channel, and no layer has read it so far.
    pub(super) fn is_input(&self, atom: Atom) -> bool {
        let marks = &self.marks[self.root(atom).0 as usize];
        marks.iter().all(|mark| matches!(mark, Mark::Input(_) | Mark::Unlearned(_)))
    }

    /// Whether a layer produces the channel.
    pub(super) fn is_produced(&self, atom: Atom) -> bool {
        let marks = &self.marks[self.root(atom).0 as usize];
        marks.iter().any(|mark| matches!(mark, Mark::Produced(_)))
    }

    /// Adds a mark to the channel of each atom.
    pub(super) fn mark(&mut self, atoms: &[Atom], mark: Mark) {
        for atom in atoms {
            let root = self.find(*atom);
            self.marks[root.0 as usize].push(mark);
        }
    }

    /// Freezes the channels of `atoms` for reason number `reason`; the first reason stays.
    pub(super) fn freeze(&mut self, atoms: &[Atom], reason: u32) {
        for atom in atoms {
            let root = self.find(*atom);
            self.frozen[root.0 as usize].get_or_insert(reason);
        }
    }

    /// All channels, in order of their smallest atom, with their sorted marks and their reason to
    /// be frozen.
    pub(super) fn channels(&self) -> impl Iterator<Item = (Atom, Vec<Mark>, Option<u32>)> + '_ {
        (0..self.parent.len() as u32).filter(|a| self.parent[*a as usize] == *a).map(|a| {
            let mut marks = self.marks[a as usize].clone();
            marks.sort_unstable();
            marks.dedup();
            (Atom(a), marks, self.frozen[a as usize])
        })
    }
}
