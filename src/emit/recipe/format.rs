//! The text of a recipe: JSON followed by the tasks' graphs, compressed, as base64.

use std::borrow::Cow;
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
const VERSION: u32 = 5;

/// Limit of the compression ratio, beyond one mebibyte, so that a short text cannot unpack to a huge
/// one. A recipe with a higher ratio is stored uncompressed.
const MOST_RATIO: usize = 100;

/// The recipe of a joint model.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Recipe {
    pub(super) tasks: Vec<TaskRecipe>,
    /// Lists of indices, as [`super::indices`] writes them, or `=T,G` for the channels of group G of task T in the
    /// order of their shared neurons.
    pub(super) lists: Vec<String>,
}

/// One task.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct TaskRecipe {
    pub(super) name: String,
    /// Bytes of the task's graph that are stored.
    pub(super) size: usize,
    /// Bytes at the beginning and at the end of the graph that are those of the task before, and are not stored.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub(super) kept: (usize, usize),
    /// The task's model with weights as its last inputs; stored after the JSON.
    #[serde(skip)]
    pub(super) graph: Vec<u8>,
    /// The blocks of each weight, in the order of these inputs.
    pub(super) weights: Vec<Vec<BlockRecipe>>,
    /// Per group, the shared neuron of each channel; empty if nothing is shared.
    pub(super) sharing: Vec<String>,
    /// Per layer, a number that is common to all layers whose weights were fused with it.
    pub(super) fused: String,
    /// Per layer, a number that the layers of other tasks have too with which its weights have a common part.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) based: String,
}

/// A block of a weight.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct BlockRecipe {
    /// The initializer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) from: String,
    /// The owner, where the initializer has the name that this owner's part of the weight gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) of: Option<String>,
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

impl BlockRecipe {
    /// The name of the initializer that holds this block of a weight, whose shortened name is given.
    pub(super) fn initializer(&self, weight: &str) -> Cow<'_, str> {
        match &self.of {
            Some(owner) => Cow::Owned(format!("{owner}/{weight}")),
            None => Cow::Borrowed(&self.from),
        }
    }
}

fn is_zero(start: &usize) -> bool {
    *start == 0
}

fn is_nothing(kept: &(usize, usize)) -> bool {
    *kept == (0, 0)
}

/// The text of a recipe.
pub(super) fn encode(mut recipe: Recipe) -> Result<String> {
    let failed = |e: std::io::Error| {
        Error::new(ErrorKind::Format, "the recipe cannot be written").because(e)
    };
    let whole: usize = recipe.tasks.iter().map(|task| task.graph.len()).sum();
    // The shortest text that may be read.
    let ways = [(true, Compression::best()), (false, Compression::best())];
    for (keeps, level) in ways.into_iter().chain([(false, Compression::none())]) {
        let (plain, json) = plain(&mut recipe, keeps).map_err(failed)?;
        let mut packer = ZlibEncoder::new(Vec::new(), level);
        let bytes = packer.write_all(&plain).and_then(|()| packer.finish()).map_err(failed)?;
        if json + whole <= most_bytes(bytes.len()) {
            return Ok(format!("{VERSION}:{}", STANDARD.encode(bytes)));
        }
    }
    Err(damaged())
}

/// A recipe before compression, and how many of its bytes are JSON. If `keeps`, graphs are differences from
/// those before them.
fn plain(recipe: &mut Recipe, keeps: bool) -> std::io::Result<(Vec<u8>, usize)> {
    let mut before: &[u8] = &[];
    let mut graphs = Vec::new();
    for task in &mut recipe.tasks {
        task.kept = if keeps { common(before, &task.graph) } else { (0, 0) };
        let own = &task.graph[task.kept.0..task.graph.len() - task.kept.1];
        task.size = own.len();
        graphs.extend_from_slice(own);
        before = &task.graph;
    }
    let mut plain = serde_json::to_vec(&recipe)?;
    plain.push(b'\n');
    let json = plain.len();
    plain.append(&mut graphs);
    Ok((plain, json))
}

/// The numbers of equal bytes at the beginnings and at the ends.
fn common(a: &[u8], b: &[u8]) -> (usize, usize) {
    let begin = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let ends = a[begin..].iter().rev().zip(b[begin..].iter().rev());
    (begin, ends.take_while(|(a, b)| a == b).count())
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
    if version != VERSION {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("the joint model's recipe has version {version}, and {VERSION} is read here"),
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
    let mut room = most - json.len();
    let mut before: &[u8] = &[];
    for task in &mut recipe.tasks {
        let (own, rest) = graphs.split_at_checked(task.size).ok_or_else(damaged)?;
        task.graph = whole(before, task.kept, own, &mut room).ok_or_else(damaged)?;
        (before, graphs) = (&task.graph, rest);
    }
    if graphs.is_empty() { Ok(recipe) } else { Err(damaged()) }
}

/// A graph of which `own` bytes are stored, and others are `kept` from the one before it; `None` if they are not
/// there, or take more than `room`.
fn whole(
    before: &[u8],
    (begin, end): (usize, usize),
    own: &[u8],
    room: &mut usize,
) -> Option<Vec<u8>> {
    let (begin, (_, end)) =
        (before.get(..begin)?, before.split_at_checked(before.len().checked_sub(end)?)?);
    *room = room.checked_sub(begin.len() + own.len() + end.len())?;
    Some([begin, own, end].concat())
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
    fn graphs_of_other_tasks_are_stored_as_differences() {
        // Bytes that do not compress.
        let noise: Vec<u8> =
            (0u32..9000).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let changed = [&noise[..4000], b"!", &noise[4100..]].concat();
        let graphs = [noise.clone(), changed, noise.clone(), Vec::new(), noise];
        let text = |graphs: &[Vec<u8>]| {
            let task =
                |graph: &Vec<u8>| TaskRecipe { graph: graph.clone(), ..TaskRecipe::default() };
            let tasks = graphs.iter().map(task).collect();
            encode(Recipe { tasks, lists: Vec::new() }).unwrap()
        };
        let read: Vec<Vec<u8>> =
            decode(&text(&graphs)).unwrap().tasks.into_iter().map(|task| task.graph).collect();
        assert_eq!(read, graphs);
        let (one, three) = (text(&graphs[..1]).len(), text(&graphs[..3]).len());
        assert!(three < one + one / 4, "{three} {one}");
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
        let keeping = |kept: &str, count: usize| {
            let task = |rest: &str| {
                format!("{{\"name\":\"a\",{rest},\"weights\":[],\"sharing\":[],\"fused\":\"\"}}")
            };
            let again = vec![task(&format!("\"size\":0,\"kept\":{kept}")); count];
            let tasks = [vec![task("\"size\":1000")], again].concat().join(",");
            let json = format!("{{\"tasks\":[{tasks}],\"lists\":[]}}\n");
            packed(&[json.as_bytes(), &[7; 1000]].concat())
        };
        assert!(decode(&keeping("[900,100]", 200)).is_ok());
        // Each of these graphs is twice the one before it.
        let (repeated, absent) = (keeping("[1000,1000]", 1), keeping("[1001,0]", 1));
        assert!(decode(&repeated).is_ok_and(|recipe| recipe.tasks[1].graph.len() == 2000));
        let repeated = keeping("[2,1000]", 20_000);
        let texts = [
            String::new(),
            "5:".into(),
            "5:!".into(),
            good[..good.len() - 4].into(),
            String::from_utf8(changed).unwrap(),
            packed(b"{}"),
            packed(b"{}\n"),
            short,
            repeated,
            absent,
            bomb,
        ];
        for text in texts {
            let error = decode(&text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Format, "{error}");
        }
    }

    #[test]
    fn other_versions_are_named() {
        for (text, version) in [
            ("{\"version\":1,\"tasks\":[]}", "version 1"),
            ("4:AAAA", "version 4"),
            ("6:A", "version 6"),
        ] {
            let error = decode(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains(version), "{error}");
        }
    }
}
