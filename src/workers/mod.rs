//! Workers of a merge that see one folder.
//!
//! A merge and its workers write files, each beside its place and renamed when it is complete:
//!
//! | file | what | who writes it |
//! |---|---|---|
//! | `nets` | the original nets | the merge, once |
//! | `shards/S` | the samples of a shard, or where they are | the merge, once |
//! | `requests/N` | a layer of which statistics are wanted, with the weights that have changed | the merge |
//! | `current` | the first request of this walk, and the last | the merge |
//! | `replies/N-S` | the sums of a shard | a worker |
//! | `claims/S` | who works on a shard | a worker |
//! | `workers/W`, `merge` | numbers that grow as long as a process lives | each its own |
//! | `failed` | why a worker cannot go on | a worker |
//! | `end` | the merge has ended | the merge |
//!
//! Who works on which shard matters to time alone. Two workers on one shard write the same bytes. So claims
//! need no lock: a worker that loses one lets go of the shard.

mod beat;
mod claims;
mod folder;
mod layout;
mod worker;

pub(crate) use folder::Folder;
pub(crate) use worker::work;
