//! The check of one task, in all runtimes.

use std::collections::VecDeque;
use std::ops::Range;

use super::engine::{Engine, JointFeed, merged};
use super::loading::is_refusal;
use super::sensitivity::most_explained;
use super::tally::{self, First, Tally};
use super::{Limits, Subject, TaskVerification, Verification, fixed_batch};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::runtime::{HostArray, ModelSource, Session, feeds};

/// Limit of elements of inputs and outputs that are held; then batches are compared before further ones
/// run.
const HELD: usize = 32 << 20;

/// Samples per task, in whole batches, that runtimes after the first one run. These confirm that it computes
/// what the file says, and may be much slower.
pub(super) const CONFIRMING: usize = 64;

/// The check of one task.
pub(super) struct Check<'a> {
    pub(super) subjects: &'a [Subject<'a>],
    pub(super) number: usize,
    pub(super) batch: usize,
    pub(super) limits: &'a Limits,
    pub(super) report: &'a mut Verification,
    /// Errors of runtimes that run the original nets, but not the joint model.
    pub(super) refused: &'a mut Vec<String>,
    pub(super) progress: &'a dyn Progress,
}

/// One batch of samples.
struct Piece {
    range: Range<usize>,
    own: Vec<(String, HostArray)>,
    labels: Option<Vec<i64>>,
    /// The outputs of the first runtime.
    first: Option<First>,
}

impl Piece {
    /// Whether all engines run it.
    fn is_confirmed(&self) -> bool {
        self.range.start < CONFIRMING
    }
}

impl Check<'_> {
    /// Runs all samples through the first engine, and the first ones through the others; an engine that fails
    /// is dropped.
    pub(super) fn run(&mut self, engines: &mut Vec<Engine<'_>>) -> Result<TaskVerification> {
        let mut tally = Tally::default();
        let mut ranges = self.ranges(engines)?;
        while !ranges.is_empty() {
            self.step(&mut ranges, engines, &mut tally)?;
        }
        self.judge(&tally, engines)?;
        Ok(tally.into_report(self.subject()))
    }

    /// Reports failures, runtimes that do not count, and differences that rounding explains.
    fn judge(&mut self, tally: &Tally, engines: &[Engine<'_>]) -> Result<()> {
        let (mut failures, mut unable) = tally.verdict(self.subject(), self.limits);
        if !failures.is_empty()
            && let Some(moved) = self.moved_by_rounding(engines)?
        {
            let limits = Limits { tolerance: self.limits.tolerance.max(moved), ..*self.limits };
            let explained = tally.verdict(self.subject(), &limits);
            if explained.0.len() < failures.len() {
                (failures, unable) = explained;
                self.report.notes.push(format!(
                    "task '{}' rounds activations to few bits, and changes of its weights by a thousandth move its \
                     outputs by {:.1} %, so differences of twice that are no failure",
                    self.subject().task,
                    50.0 * moved
                ));
            }
        }
        self.report.failures.extend(failures);
        self.report.unable.extend(unable);
        Ok(())
    }

    /// The part by which an output of the merged net may differ since it rounds activations, if it does.
    fn moved_by_rounding(&self, engines: &[Engine<'_>]) -> Result<Option<f64>> {
        let Subject { net, data, task, .. } = self.subject();
        let (Some(ModelSource::Graph(net)), Some(engine)) = (net, engines.first()) else {
            return Ok(None);
        };
        let size = fixed_batch(engines, self.number).unwrap_or(self.batch);
        let batch = data.batch(0..data.len().min(size))?;
        most_explained(net, &batch, engine.backend).in_model(task)
    }

    fn subject(&self) -> &Subject<'_> {
        &self.subjects[self.number]
    }

    /// The samples of each batch.
    fn ranges(&self, engines: &[Engine<'_>]) -> Result<VecDeque<Range<usize>>> {
        let Subject { task, data, .. } = self.subject();
        let fixed = fixed_batch(engines, self.number);
        Ok(data.runs(fixed, self.batch).in_model(task)?.into())
    }

    /// Runs as many batches as can be held, in one engine after the other.
    fn step(
        &mut self,
        ranges: &mut VecDeque<Range<usize>>,
        engines: &mut Vec<Engine<'_>>,
        tally: &mut Tally,
    ) -> Result<()> {
        let mut pieces = Vec::new();
        let mut judged = false;
        let (mut kept, mut refusal) = (Vec::new(), None);
        for mut engine in engines.drain(..) {
            // The first engine that runs the original net takes as many batches as can be held.
            let more = if judged { &mut VecDeque::new() } else { &mut *ranges };
            if judged && !pieces.first().is_some_and(Piece::is_confirmed) {
                kept.push(engine);
                continue;
            }
            let references = match self.references(&engine, &mut pieces, more) {
                Ok(references) => references,
                Err(e) if !is_refusal(&e) => return Err(e),
                Err(e) => {
                    self.report.unable.push(format!("{}: {}", engine.description, e.fault()));
                    refusal.get_or_insert(e);
                    continue;
                }
            };
            let is_judge = !std::mem::replace(&mut judged, true);
            let shown = references.len();
            let compared = self.compare(&mut engine, references, &mut pieces[..shown], tally);
            engine.rest();
            match compared {
                Ok(()) => kept.push(engine),
                Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
                Err(e) if is_judge => {
                    self.report.failures.push(format!("{}: {}", engine.description, e.fault()));
                }
                Err(e) => {
                    self.report.unable.push(format!("{}: {}", engine.description, e.fault()));
                }
            }
        }
        *engines = kept;
        if engines.is_empty() {
            // No runtime is left for further batches.
            ranges.clear();
            // The first of these runtimes becomes the judge, so its error counts.
            self.report.failures.append(self.refused);
        }
        match engines.is_empty() && self.report.failures.is_empty() {
            true => Err(refusal.unwrap_or_else(|| {
                Error::new(ErrorKind::Backend, "no runtime can run the original models")
                    .because(self.report.unable.join("; "))
            })),
            false => Ok(()),
        }
    }

    /// Outputs of the original net for each piece. The first engine takes new pieces from `more`, up to the
    /// limit of held elements; others stop behind the samples that confirm it.
    fn references(
        &self,
        engine: &Engine<'_>,
        pieces: &mut Vec<Piece>,
        more: &mut VecDeque<Range<usize>>,
    ) -> Result<Vec<Vec<HostArray>>> {
        let mut net = engine.original(self.number)?;
        let (mut references, mut held) = (Vec::new(), 0);
        let is_first = pieces.is_empty();
        loop {
            if references.len() == pieces.len()
                && held < HELD
                && let Some(range) = more.pop_front()
            {
                pieces.push(self.piece(range)?);
            }
            let piece = pieces.get(references.len());
            let Some(piece) = piece.filter(|piece| is_first || piece.is_confirmed()) else {
                return Ok(references);
            };
            let found = self.outputs(net.as_mut(), piece).in_model(self.subject().task)?;
            let inputs = piece.own.iter().map(|(_, array)| array);
            held += inputs.chain(&found).map(HostArray::len).sum::<usize>();
            references.push(found);
        }
    }

    fn piece(&self, range: Range<usize>) -> Result<Piece> {
        let data = self.subject().data;
        let (own, labels) = (data.batch(range.clone())?, data.labels(range.clone()));
        Ok(Piece { range, own, labels, first: None })
    }

    fn outputs(&self, net: &mut dyn Session, piece: &Piece) -> Result<Vec<HostArray>> {
        self.progress.check()?;
        let outputs = net.run(&feeds(&piece.own))?;
        self.progress.step();
        Ok(outputs)
    }

    /// Runs the net that the joint model must compute, and then the joint model, on all pieces.
    fn compare(
        &self,
        engine: &mut Engine<'_>,
        references: Vec<Vec<HostArray>>,
        pieces: &mut [Piece],
        tally: &mut Tally,
    ) -> Result<()> {
        let number = self.number;
        let mut exact: Vec<Option<Vec<HostArray>>> = pieces.iter().map(|_| None).collect();
        if let Some(mut net) = engine.exact(number)? {
            for (piece, outputs) in pieces.iter().zip(&mut exact) {
                let found = self.outputs(net.as_mut(), piece);
                *outputs = Some(found.in_model(merged(self.subject().task))?);
            }
        }
        for ((piece, reference), exact) in pieces.iter_mut().zip(references).zip(exact) {
            self.progress.check()?;
            let feed = JointFeed { number, range: piece.range.clone(), own: &piece.own };
            let found = engine.joint(&feed)?;
            self.progress.step();
            let labels = piece.labels.as_deref();
            let reading = self.subject().reading;
            let batch = tally::Batch { reference, exact, found, labels, reading };
            tally.add(engine, number, batch, &mut piece.first);
        }
        Ok(())
    }
}
