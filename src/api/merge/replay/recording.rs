//! Recording a merge: the plan that repeats it.

use std::path::Path;

use super::{Files, Options, PREPROCESS, paths};
use crate::api::TOOL;
use crate::api::merge::Merger;
use crate::api::options::Typed;
use crate::mtz::site::SiteRecord;
use crate::report::each;
use crate::zipper::{Decisions, FileRecord, LayerRecord, PlanFile, SiteNames, Weights};

/// The facts about a merge that its plan records.
pub(in crate::api) struct Made<'a> {
    /// The files as they were when the merge began.
    pub(in crate::api) files: &'a Files,
    pub(in crate::api) runtime: String,
    pub(in crate::api) memory: u64,
    pub(in crate::api) sites: &'a [SiteNames],
    pub(in crate::api) records: &'a [SiteRecord],
    pub(in crate::api) decisions: &'a Decisions,
}

impl Merger {
    /// The options of a merge for its records: `options` as typed, the tasks' names, the memory limit in
    /// bytes, and the seed.
    pub(in crate::api) fn recorded(&self, mut options: Options, memory: u64) -> Options {
        if !self.names.is_empty() {
            options.insert("name".to_owned(), self.names.clone());
        }
        options.entry("memory".to_owned()).or_insert_with(|| vec![memory.to_string()]);
        let seed = self.options.tuning.statistics.seed;
        options.entry("seed".to_owned()).or_insert_with(|| vec![seed.to_string()]);
        options.sort_keys();
        options
    }

    /// The text of the plan of a finished merge, for the file `path`.
    pub(in crate::api) fn plan_of(&self, path: &Path, plan: &PlanFile, made: &Made<'_>) -> String {
        let moved = |record: &FileRecord| FileRecord {
            path: paths::seen_from(path, &record.path),
            sha256: record.sha256.clone(),
        };
        let files =
            |all: &[Option<FileRecord>]| -> Vec<_> { all.iter().flatten().map(moved).collect() };
        let mut options = plan.options.clone();
        for file in options.get_mut(PREPROCESS).into_iter().flatten() {
            *file = paths::seen_from(path, Path::new(file.as_str())).to_string_lossy().into_owned();
        }
        let options = self.recorded(options, made.memory);
        let plan = PlanFile {
            tool: Some(TOOL.to_owned()),
            runtime: Some(made.runtime.clone()),
            models: files(&made.files.models),
            data: files(&made.files.data),
            gram: files(&made.files.gram),
            options,
            layers: layers(made),
        };
        plan.text()
    }
}

/// The decisions about layers that can be shared.
fn layers(made: &Made<'_>) -> Vec<LayerRecord> {
    let mut layers: Vec<LayerRecord> = Vec::new();
    for (site, record) in made.sites.iter().zip(made.records) {
        let is_open = record.reason.is_none() || record.keeps_weights();
        // All gates of a recurrent node have its name, and one decision.
        if !is_open || layers.iter().any(|other| other.layers == site.layers) {
            continue;
        }
        let share = made.decisions.shares.iter().find(|(name, _)| name == site.first());
        let weights = if record.keeps_weights() { Weights::Own } else { Weights::Common };
        let (ranks, bits) = match record.bits.is_empty() {
            true => (ranks(site, made.decisions), Vec::new()),
            false => (Vec::new(), ranks(site, made.decisions)),
        };
        layers.push(LayerRecord {
            layers: site.layers.clone(),
            weights,
            shared: share.map(|(_, share)| Typed(*share).to_string()),
            ranks,
            bits,
            about: format!("{} neurons of {} inputs", each(&record.neurons), each(&record.inputs)),
        });
    }
    layers
}

/// The rank of each net's correction; empty if there are none.
fn ranks(site: &SiteNames, decisions: &Decisions) -> Vec<usize> {
    let rank = |net: usize| {
        let own = site.members.iter().find(|own| own.task.0 == net);
        own.and_then(|own| decisions.ranks.get(own)).copied().unwrap_or(0)
    };
    let ranks: Vec<usize> = (0..site.layers.len()).map(rank).collect();
    if ranks.iter().all(|rank| *rank == 0) { Vec::new() } else { ranks }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::checksum;

    #[test]
    fn a_plan_names_the_files_that_were_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        std::fs::write(&path, "before").unwrap();
        let merger = Merger::default().model(b"bytes".to_vec()).data(path.clone());
        let files = Files::of(&merger).unwrap();
        std::fs::write(&path, "after").unwrap();
        let made = Made {
            files: &files,
            runtime: "tract".to_owned(),
            memory: 1,
            sites: &[],
            records: &[],
            decisions: &Decisions::default(),
        };
        let text = merger.plan_of(&folder.path().join("a.toml"), &PlanFile::default(), &made);
        let plan = PlanFile::parse(&text).unwrap();
        let ([data], []) = (plan.data.as_slice(), plan.models.as_slice()) else { panic!("{text}") };
        let now = checksum::of_samples(&path).unwrap();
        assert!(data.sha256.as_ref().is_some_and(|sum| sum.len() == now.len() && *sum != now));
        assert_eq!(data.path.file_name(), path.file_name());
    }
}
