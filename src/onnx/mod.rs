//! The ONNX file format: protobuf ⇄ [`crate::ir`]. No other module sees protobuf types.
//!
//! Reading checks everything that the graph representation promises (unique names, every value
//! defined once, no cycles, tensors that fill their shapes), so that later stages need not. Parts
//! beyond a model's function (doc strings, training graphs, quantization annotations, device
//! placement) are dropped. Writing puts nodes into topological order and gives the same bytes for the
//! same graph.

mod apart;
mod data_file;
mod external;
mod maps;
mod net;
#[rustfmt::skip]
#[allow(missing_docs, dead_code, clippy::all)]
mod proto;
mod read;
mod save;
mod sniff;
mod stream;
mod tensor;
mod types;
mod write;

pub(crate) use apart::{Apart, encode_apart};
pub(crate) use maps::{is_map, with_scores};
pub(crate) use net::{decode_net, encode_net};
pub(crate) use read::{adapted, adapted_file, data_files};
pub use read::{decode, load};
pub use save::{Draft, External, SaveOptions, save, save_split, stage};
pub use types::kind;
#[cfg(feature = "tract")]
pub(crate) use write::encode_any;
pub use write::{encode, encoded_bytes};
