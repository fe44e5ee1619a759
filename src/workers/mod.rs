//! Workers of a merge, which share a folder with it.
//!
//! The merge and its workers write these files. Each is renamed into place when it is complete:
//!
//! | file | what | who writes it |
//! |---|---|---|
//! | `nets` | the original nets | the merge, once |
//! | `shards/S` | the samples of a shard, or their paths | the merge, once |
//! | `requests/N` | a layer whose statistics are wanted, and the weights that have changed | the merge |
//! | `current` | the first and the last request of this walk | the merge |
//! | `replies/N-S` | the sums of a shard | a worker |
//! | `claims/S` | the worker of a shard | a worker |
//! | `workers/W`, `merge` | heartbeats | each process its own |
//! | `failed` | the error of a worker | a worker |
//! | `end` | the merge has ended | the merge |
//!
//! Claims need no lock: the worker of a shard affects the run time only. Two workers of one shard write
//! the same bytes. A worker that loses its claim drops the shard.

mod beat;
mod claims;
mod folder;
mod layout;
mod open;
mod worker;

pub(crate) use folder::Folder;
#[cfg(feature = "cli")]
pub(crate) use open::end_all;
pub(crate) use worker::work;
