//! The text of a recipe: JSON followed by the tasks' graphs, compressed, as base64.

use std::io::{Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::{Deserialize, Serialize};

use super::damaged;
use crate::error::{Error, ErrorKind, Result};

/// Version of the format.
const VERSION: u32 = 2;

/// Version of a recipe with sums, which readers of the other would misread.
const WITH_SUMS: u32 = 3;

/// Version of a recipe with blocks at any indices of an initializer, and perhaps with sums.
const WITH_PLACES: u32 = 4;

/// Limit of the compression ratio, beyond one mebibyte, so that a short text cannot unpack to a huge
/// one. A recipe with a higher ratio is stored uncompressed.
const MOST_RATIO: usize = 100;

/// The recipe of a joint model.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Recipe {
    pub(super) tasks: Vec<TaskRecipe>,
    /// Lists of indices, as [`super::indices`] writes them.
    pub(super) lists: Vec<String>,
}

/// One task.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct TaskRecipe {
    pub(super) name: String,
    /// Bytes of the task's graph.
    pub(super) size: usize,
    /// The task's model with weights as inputs; stored after the JSON.
    #[serde(skip)]
    pub(super) graph: Vec<u8>,
    pub(super) weights: Vec<WeightRecipe>,
    /// Per group, the shared neuron of each channel; empty if nothing is shared.
    pub(super) sharing: Vec<String>,
    /// Per layer, a number that is common to all layers whose weights were fused with it.
    pub(super) fused: String,
    /// Per layer, a number that the layers of other tasks have too with which its weights have a common part.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) based: String,
}

/// A weight of a task.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct WeightRecipe {
    pub(super) name: String,
    pub(super) blocks: Vec<BlockRecipe>,
}

/// A block of a weight.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct BlockRecipe {
    /// The initializer.
    pub(super) from: String,
    /// The initializer that is added to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) plus: Option<String>,
    /// Axes with the number of their list of indices; an axis without an entry is complete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) parts: Vec<(usize, usize)>,
    /// The block's first index along the initializer's first axis.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) start: usize,
    /// Whether the initializer holds the block with its two axes swapped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) transposed: bool,
    /// An axis of the initializer, with the number of the list of the block's indices along it; the block is
    /// complete along the others. What is added has the same indices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) within: Option<(usize, usize)>,
}

fn is_zero(start: &usize) -> bool {
    *start == 0
}

/// The text of a recipe.
pub(super) fn encode(mut recipe: Recipe) -> Result<String> {
    let failed = |e: std::io::Error| {
        Error::new(ErrorKind::Format, "the recipe cannot be written").because(e)
    };
    recipe.tasks.iter_mut().for_each(|task| task.size = task.graph.len());
    let mut plain = serde_json::to_vec(&recipe).map_err(|e| failed(e.into()))?;
    plain.push(b'\n');
    recipe.tasks.iter().for_each(|task| plain.extend_from_slice(&task.graph));
    let packed = |level: Compression| {
        let mut packer = ZlibEncoder::new(Vec::new(), level);
        packer.write_all(&plain)?;
        packer.finish()
    };
    let mut bytes = packed(Compression::best()).map_err(failed)?;
    if plain.len() > most_bytes(bytes.len()) {
        bytes = packed(Compression::none()).map_err(failed)?;
    }
    let has_sums = recipe.tasks.iter().any(|task| !task.based.is_empty());
    let weights = recipe.tasks.iter().flat_map(|task| &task.weights);
    let has_places = weights.flat_map(|weight| &weight.blocks).any(|block| block.within.is_some());
    let version = match (has_places, has_sums) {
        (true, _) => WITH_PLACES,
        (false, true) => WITH_SUMS,
        (false, false) => VERSION,
    };
    Ok(format!("{version}:{}", STANDARD.encode(bytes)))
}

/// The recipe that a text holds.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for another version of the format, [`ErrorKind::Format`] for other text.
pub(super) fn decode(text: &str) -> Result<Recipe> {
    let (version, packed) = text.split_once(':').ok_or_else(damaged)?;
    // The first version was JSON.
    let version: u32 =
        if text.starts_with('{') { 1 } else { version.parse().map_err(|_| damaged())? };
    if ![VERSION, WITH_SUMS, WITH_PLACES].contains(&version) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the joint model's recipe has version {version}, and up to {WITH_PLACES} is read here"
            ),
        )
        .hint("use the version of onnx-zip that wrote it, or merge the models again"));
    }
    let packed = STANDARD.decode(packed).map_err(|e| damaged().because(e))?;
    let most = most_bytes(packed.len());
    let mut plain = Vec::new();
    let mut unpacker = ZlibDecoder::new(packed.as_slice()).take(most as u64 + 1);
    unpacker.read_to_end(&mut plain).map_err(|e| damaged().because(e))?;
    if plain.len() > most {
        return Err(damaged());
    }
    let end = plain.iter().position(|byte| *byte == b'\n').ok_or_else(damaged)?;
    let (json, mut graphs) = (&plain[..end], &plain[end + 1..]);
    let mut recipe: Recipe = serde_json::from_slice(json).map_err(|e| damaged().because(e))?;
    for task in &mut recipe.tasks {
        let (graph, rest) = graphs.split_at_checked(task.size).ok_or_else(damaged)?;
        task.graph = graph.to_vec();
        graphs = rest;
    }
    if graphs.is_empty() { Ok(recipe) } else { Err(damaged()) }
}

/// Limit of the size of a recipe in `packed` compressed bytes.
fn most_bytes(packed: usize) -> usize {
    packed.saturating_mul(MOST_RATIO).saturating_add(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(plain: &[u8]) -> String {
        let mut packer = ZlibEncoder::new(Vec::new(), Compression::best());
        packer.write_all(plain).unwrap();
        format!("{VERSION}:{}", STANDARD.encode(packer.finish().unwrap()))
    }

    #[test]
    fn recipes_round_trip_however_well_they_compress() {
        for graph in [Vec::new(), b"graph\n".to_vec(), vec![7; 5 << 20]] {
            let task =
                TaskRecipe { name: "a".into(), size: graph.len(), graph, ..TaskRecipe::default() };
            let recipe = || Recipe {
                tasks: vec![TaskRecipe {
                    graph: task.graph.clone(),
                    name: "b".into(),
                    size: task.size,
                    ..TaskRecipe::default()
                }],
                lists: vec!["0x4".into()],
            };
            assert_eq!(decode(&encode(recipe()).unwrap()).unwrap(), recipe());
        }
    }

    #[test]
    fn damaged_and_hostile_texts_are_refused() {
        let bomb = packed(&vec![b' '; 200 << 20]);
        assert!(bomb.len() < 1 << 20);
        let good = encode(Recipe::default()).unwrap();
        let mut changed = good.clone().into_bytes();
        let middle = changed.len() / 2;
        changed[middle] = if changed[middle] == b'A' { b'B' } else { b'A' };
        let short = packed(b"{\"tasks\":[{\"name\":\"a\",\"size\":9,\"weights\":[],\"sharing\":[],\"fused\":\"\"}],\"lists\":[]}\n12");
        let texts = [
            String::new(),
            "2:".into(),
            "2:!".into(),
            good[..good.len() - 4].into(),
            String::from_utf8(changed).unwrap(),
            packed(b"{}"),
            packed(b"{}\n"),
            short,
            bomb,
        ];
        for text in texts {
            let error = decode(&text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Format, "{error}");
        }
    }

    #[test]
    fn other_versions_are_named() {
        for (text, version) in
            [("{\"version\":1,\"tasks\":[]}", "version 1"), ("5:AAAA", "version 5")]
        {
            let error = decode(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains(version), "{error}");
        }
    }
}
