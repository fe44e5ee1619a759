//! The data that workers need before the first request: nets and samples.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::parcel::{Parcel, damaged, pack};
use crate::calib::data::{Dataset, ShardRecord, ShardSamples};
use crate::calib::stream::Source;
use crate::calib::taps::Part;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::Model;
use crate::onnx;

/// The nets of a merge and their samples, in shards.
pub struct Job<'a> {
    nets: Vec<u8>,
    sources: &'a [Source<'a>],
    shards: usize,
}

/// The header of the nets' message; the models are blobs.
#[derive(Serialize, Deserialize)]
struct Nets {
    /// Version of the program that merges.
    version: String,
    shards: usize,
    tasks: Vec<NetRecord>,
}

#[derive(Serialize, Deserialize)]
struct NetRecord {
    name: String,
    /// Samples per batch.
    batch: usize,
    /// Initial limit of bytes of values that are kept between layers; requests may change it.
    memory: u64,
}

/// The header of one task's samples in a shard.
#[derive(Serialize, Deserialize)]
struct TaskShard {
    first: usize,
    samples: usize,
    record: ShardRecord,
    /// Number of its blobs.
    blobs: usize,
}

/// A net as received by a worker.
pub(super) struct Net {
    pub(super) model: Model,
    pub(super) batch: usize,
    pub(super) memory: u64,
}

impl<'a> Job<'a> {
    pub(super) fn new(nets: &[&Model], sources: &'a [Source<'a>], shards: usize) -> Result<Self> {
        let record = |(net, source): (&&Model, &Source<'_>)| {
            let (batch, memory) = (source.batch, source.memory);
            NetRecord { name: net.name.clone(), batch, memory }
        };
        let tasks = nets.iter().zip(sources).map(record).collect();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let blobs = nets.iter().map(|net| onnx::encode(net)).collect::<Result<Vec<_>>>()?;
        Ok(Job { nets: pack(&Nets { version, shards, tasks }, &blobs)?, sources, shards })
    }

    /// The number of shards.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// The nets, for every worker.
    pub fn nets(&self) -> &[u8] {
        &self.nets
    }

    /// The samples of one shard, or their paths.
    ///
    /// # Errors
    /// [`ErrorKind::Calibration`] where samples cannot be read.
    pub fn shard(&self, shard: usize) -> Result<Vec<u8>> {
        let (mut tasks, mut blobs) = (Vec::new(), Vec::new());
        for source in self.sources {
            let samples = source.data.len();
            let range = share(samples, shard, self.shards);
            let first = range.start;
            let ShardSamples { record, parts } = source.data.shard(range)?;
            tasks.push(TaskShard { first, samples, record, blobs: parts.len() });
            blobs.extend(parts);
        }
        pack(&tasks, &blobs)
    }
}

/// The samples of one of `shards` equal shards.
fn share(samples: usize, shard: usize, shards: usize) -> Range<usize> {
    let edge = |shard: usize| (samples as u128 * shard as u128 / shards.max(1) as u128) as usize;
    edge(shard)..edge(shard + 1)
}

/// Reads [`Job::nets`].
///
/// # Errors
/// [`ErrorKind::Format`] for damaged bytes, and for those of another version of the program.
pub(super) fn read_nets(bytes: &[u8]) -> Result<Vec<Net>> {
    let parcel: Parcel<'_, Nets> = Parcel::of(bytes)?;
    let (theirs, own) = (&parcel.header.version, env!("CARGO_PKG_VERSION"));
    if theirs != own {
        let message = format!("the merge runs version {theirs} of onnx-zip, this worker {own}");
        return Err(Error::new(ErrorKind::Format, message).hint("run one version everywhere"));
    }
    let net = |(number, record): (usize, &NetRecord)| {
        let NetRecord { name, batch, memory } = record;
        let mut model = onnx::decode(parcel.blob(number)?.to_vec().into(), None, name)?;
        model.name.clone_from(name);
        crate::canon::infer_types(&mut model.graph).in_model(name)?;
        Ok(Net { model, batch: *batch, memory: *memory })
    };
    parcel.header.tasks.iter().enumerate().map(net).collect()
}

/// The number of shards, from [`Job::nets`].
///
/// # Errors
/// As [`read_nets`].
pub(super) fn count_shards(nets: &[u8]) -> Result<usize> {
    let parcel: Parcel<'_, Nets> = Parcel::of(nets)?;
    Ok(parcel.header.shards)
}

/// Reads [`Job::shard`]: per task, the samples and their place among all samples.
///
/// # Errors
/// As [`Dataset::open`]; [`ErrorKind::Format`] for damaged ones.
pub(super) fn read_shard(bytes: &[u8]) -> Result<Vec<(Dataset, Part)>> {
    let parcel: Parcel<'_, Vec<TaskShard>> = Parcel::of(bytes)?;
    let mut next = 0;
    let mut tasks = Vec::new();
    for task in &parcel.header {
        let end = next + task.blobs;
        let parts = (next..end).map(|blob| parcel.blob(blob).map(<[u8]>::to_vec));
        let samples =
            ShardSamples { record: task.record.clone(), parts: parts.collect::<Result<_>>()? };
        next = end;
        let data = Dataset::of_shard(samples)?;
        if data.is_empty() {
            return Err(damaged("a shard is empty"));
        }
        tasks.push((data, Part { first: task.first, samples: task.samples }));
    }
    Ok(tasks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_all_samples_in_order() {
        for (samples, shards) in [(10, 3), (7, 7), (1000, 1), (64, 5)] {
            let all: Vec<usize> = (0..shards).flat_map(|s| share(samples, s, shards)).collect();
            assert!(all.into_iter().eq(0..samples));
            let sizes: Vec<usize> = (0..shards).map(|s| share(samples, s, shards).len()).collect();
            assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
        }
    }
}
