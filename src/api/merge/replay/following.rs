//! Following a plan: its files must be those given, and its tables decide about layers.

use std::collections::BTreeSet;

use super::Files;
use crate::align::TaskLayer;
use crate::api::TOOL;
use crate::api::merge::Merger;
use crate::api::options::KeepShared;
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::progress::Progress;
use crate::zipper::{Decisions, FileRecord, LayerRecord, SiteNames, Weights};

impl Merger {
    /// Compares models and samples with the plan to follow.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a file that differs, unless that is allowed.
    pub(in crate::api) fn check_followed(
        &self,
        files: &Files,
        progress: &dyn Progress,
    ) -> Result<()> {
        let Some(plan) = &self.replay.followed else { return Ok(()) };
        let kinds = [
            ("models", &plan.models, &files.models),
            ("data", &plan.data, &files.data),
            ("gram", &plan.gram, &files.gram),
        ];
        for (kind, wanted, found) in kinds {
            if wanted.len() != found.len() && wanted.iter().any(|file| file.sha256.is_some()) {
                let (n, m) = (wanted.len(), found.len());
                let message = format!("the plan has {n} entries of {kind}, and {m} are given");
                return Err(Error::new(ErrorKind::Usage, message).hint("give as many as it has"));
            }
            for (wanted, found) in wanted.iter().zip(found) {
                self.check_file(wanted, found.as_ref(), progress)?;
            }
        }
        Ok(())
    }

    fn check_file(
        &self,
        wanted: &FileRecord,
        found: Option<&FileRecord>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let Some((sum, found)) = wanted.sha256.as_ref().zip(found) else { return Ok(()) };
        if found.sha256.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(sum)) {
            return Ok(());
        }
        let path = found.path.display();
        let message = format!("'{path}' differs from the file of the plan in its SHA-256");
        if self.replay.allow_changed {
            progress.warn(&message);
            return Ok(());
        }
        Err(Error::new(ErrorKind::Usage, message)
            .hint(Hint::from("restore the file, or go on with ").option("allow-changed")))
    }

    /// The decisions of the plan to follow; `None` if it leaves them to the options.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a layer that the models do not have in common, that has several tables or that
    /// can have no common weights, and for an invalid share.
    pub(in crate::api) fn decisions(&self, sites: &[SiteNames]) -> Result<Option<Decisions>> {
        let layers = self.replay.followed.iter().flat_map(|plan| &plan.layers);
        let mut decisions = None;
        let mut decided = BTreeSet::new();
        for layer in layers {
            let decisions = decisions.get_or_insert_with(Decisions::default);
            let mut found = sites.iter().filter(|site| layer.is_of(&site.layers)).peekable();
            let Some(&first) = found.peek() else { return Err(unknown(layer, sites)) };
            if !decided.insert(first.place) {
                return Err(twice(layer));
            }
            if let Some(reason) = unshareable(layer, found.clone()) {
                let message = format!("layer '{}' cannot have common weights", layer.shown());
                return Err(Error::new(ErrorKind::Usage, format!("{message}: {reason}"))
                    .hint("leave out its table, or write weights = \"own\""));
            }
            if let Some(text) = &layer.shared {
                let rule: KeepShared = format!("*={text}").parse()?;
                decisions.shares.push((first.first().to_owned(), rule.share));
            }
            let rank = |own: &TaskLayer| {
                let ranks = if layer.bits.is_empty() { &layer.ranks } else { &layer.bits };
                let rank = ranks.get(own.task.0).copied().filter(|rank| *rank > 0)?;
                Some((*own, rank))
            };
            decisions.ranks.extend(first.members.iter().filter_map(rank));
            if layer.weights == Weights::Own {
                decisions.own.extend(found.map(|site| site.place));
            }
        }
        Ok(decisions)
    }

    /// Warns if the plan was made with another version or runtime.
    pub(in crate::api) fn compare_makers(&self, runtime: &str, progress: &dyn Progress) {
        let Some(plan) = &self.replay.followed else { return };
        for (made, now) in [(&plan.tool, TOOL), (&plan.runtime, runtime)] {
            if let Some(made) = made.as_ref().filter(|made| *made != now) {
                progress.warn(&format!(
                    "the plan was made with {made}, and this is {now}: the joint model may differ"
                ));
            }
        }
    }
}

/// The reason why layers of a table with common weights can have none, if so. A table of a recurrent layer is
/// about all its gates.
fn unshareable<'a>(
    layer: &LayerRecord,
    mut sites: impl Iterator<Item = &'a SiteNames>,
) -> Option<&'a str> {
    if layer.weights == Weights::Own {
        return None;
    }
    let first = sites.next()?.unshareable.as_deref()?;
    sites.all(|site| site.unshareable.is_some()).then_some(first)
}

fn twice(layer: &LayerRecord) -> Error {
    let message = format!("the plan has two tables for layer '{}'", layer.shown());
    Error::new(ErrorKind::Usage, message).hint("remove one of them")
}

fn unknown(layer: &LayerRecord, sites: &[SiteNames]) -> Error {
    let mut names: Vec<&str> = sites.iter().map(SiteNames::first).collect();
    names.dedup();
    let message = format!("the models do not share the plan's layer '{}'", layer.shown());
    Error::new(ErrorKind::Usage, message).hint(format!("they are {}", names.join(", ")))
}
