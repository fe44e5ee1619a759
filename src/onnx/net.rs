//! Nets without their weights, in few bytes.
//!
//! Names are most of such a net. They stand in a table before the message, each without what it has in common
//! with the name before it. In the message, nodes read a computed value by its distance, and an input or a
//! constant by its distance from the successor of the one that was read before it. So equal layers are equal
//! bytes, which compress well. Sub-graphs keep their names.

use std::collections::HashMap;
use std::vec::IntoIter;

use bytes::{Buf, Bytes};
use prost::Message;
use prost::encoding::{decode_varint, encode_varint};

use super::external::ExternalData;
use super::proto::{GraphProto, ModelProto};
use super::read::{assemble, no_model};
use super::write::to_proto;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::Model;

/// Limit of the bytes of all names as they stand in a message, as a multiple of the encoded bytes, beyond one
/// mebibyte. The names of a net that needs more stay in its message.
const MOST_RATIO: usize = 32;

/// Stands for the name of a node's output; an output that is left out has an empty name.
const NAMED: &str = "=";

/// Encodes a net for [`decode_net`].
///
/// # Errors
/// As [`super::encode`].
pub(crate) fn encode_net(model: &Model) -> Result<Vec<u8>> {
    let proto = to_proto(model)?;
    let mut light = proto.clone();
    let mut taken = Taken::default();
    let graph = light.graph.get_or_insert_default();
    if walk(graph, &mut taken).is_some() {
        let bytes = [table(&taken.table), light.encode_to_vec()].concat();
        if taken.bytes <= most_bytes(bytes.len()) {
            return Ok(bytes);
        }
    }
    Ok([table(&[]), proto.encode_to_vec()].concat())
}

/// Reads a net from [`encode_net`]. The net may have no nodes.
///
/// # Errors
/// As [`super::decode`].
pub(crate) fn decode_net(bytes: &[u8], name: &str) -> Result<Model> {
    let damaged = || Error::new(ErrorKind::Format, "the names of the net's values are damaged");
    let mut room = most_bytes(bytes.len());
    let mut rest = bytes;
    let table = read_table(&mut rest, &mut room).ok_or_else(damaged).in_model(name)?;
    let message = Bytes::copy_from_slice(rest);
    let proto = ModelProto::decode(message.clone()).map_err(|e| no_model(&message, Some(e)));
    let mut proto = proto.in_model(name)?;
    if !table.is_empty() {
        let mut given = Given { table: table.into_iter(), room, ..Given::default() };
        let found = walk(proto.graph.get_or_insert_default(), &mut given);
        let all = found.filter(|()| given.table.len() == 0);
        all.ok_or_else(damaged).in_model(name)?;
    }
    assemble(proto, ExternalData::none(), name).in_model(name)
}

fn most_bytes(encoded: usize) -> usize {
    encoded.saturating_mul(MOST_RATIO).saturating_add(1 << 20)
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Input,
    Constant,
    Node,
}

/// Changes the names of a graph, met in the order of [`walk`]; `None` if that is impossible.
trait Names {
    /// A new value.
    fn define(&mut self, origin: Origin, name: &mut String) -> Option<()>;
    /// A node's own name.
    fn label(&mut self, name: &mut String) -> Option<()>;
    /// A value that is read.
    fn read(&mut self, name: &mut String) -> Option<()>;
}

fn walk(graph: &mut GraphProto, names: &mut impl Names) -> Option<()> {
    for input in &mut graph.input {
        names.define(Origin::Input, input.name.get_or_insert_default())?;
    }
    for tensor in &mut graph.initializer {
        names.define(Origin::Constant, tensor.name.get_or_insert_default())?;
    }
    for node in &mut graph.node {
        for input in node.input.iter_mut().filter(|input| !input.is_empty()) {
            names.read(input)?;
        }
        names.label(node.name.get_or_insert_default())?;
        for output in node.output.iter_mut().filter(|output| !output.is_empty()) {
            names.define(Origin::Node, output)?;
        }
    }
    let mut typed = graph.output.iter_mut().chain(&mut graph.value_info);
    typed.try_for_each(|value| names.read(value.name.get_or_insert_default()))
}

/// Takes names out of a message.
#[derive(Default)]
struct Taken {
    table: Vec<String>,
    places: HashMap<String, (Origin, usize)>,
    counts: [usize; 3],
    /// Successors of the input and of the constant that were read last.
    next: [i64; 2],
    /// Bytes of all names.
    bytes: usize,
}

impl Names for Taken {
    fn define(&mut self, origin: Origin, name: &mut String) -> Option<()> {
        let count = self.counts.get_mut(origin as usize)?;
        let is_new = self.places.insert(name.clone(), (origin, *count)).is_none();
        *count += 1;
        self.label(name)?;
        if origin == Origin::Node {
            NAMED.clone_into(name);
        }
        is_new.then_some(())
    }

    fn label(&mut self, name: &mut String) -> Option<()> {
        self.bytes += name.len();
        self.table.push(std::mem::take(name));
        Some(())
    }

    fn read(&mut self, name: &mut String) -> Option<()> {
        let (origin, place) = *self.places.get(name.as_str())?;
        self.bytes += name.len();
        let mut step = |kind: Origin| {
            let next = self.next.get_mut(kind as usize)?;
            let step = i64::try_from(place).ok()? - *next;
            *next += step + 1;
            Some(step)
        };
        *name = match origin {
            Origin::Input => format!("i{}", step(origin)?),
            Origin::Constant => format!("c{}", step(origin)?),
            Origin::Node => (self.counts[origin as usize] - place).to_string(),
        };
        Some(())
    }
}

/// Puts names back into a message.
#[derive(Default)]
struct Given {
    table: IntoIter<String>,
    values: [Vec<String>; 3],
    /// As in [`Taken`].
    next: [i64; 2],
    /// Bytes of names that may still be written.
    room: usize,
}

impl Names for Given {
    fn define(&mut self, origin: Origin, name: &mut String) -> Option<()> {
        self.label(name)?;
        self.values.get_mut(origin as usize)?.push(name.clone());
        Some(())
    }

    fn label(&mut self, name: &mut String) -> Option<()> {
        *name = self.table.next()?;
        Some(())
    }

    fn read(&mut self, name: &mut String) -> Option<()> {
        let mut from = |origin: Origin, step: &str| {
            let next = self.next.get_mut(origin as usize)?;
            let place = next.checked_add(step.parse().ok()?)?;
            *next = place.checked_add(1)?;
            self.values.get(origin as usize)?.get(usize::try_from(place).ok()?)
        };
        let value = match name.as_bytes().first()? {
            b'i' => from(Origin::Input, name.get(1..)?)?,
            b'c' => from(Origin::Constant, name.get(1..)?)?,
            _ => {
                let computed = self.values.get(Origin::Node as usize)?;
                computed.get(computed.len().checked_sub(name.parse().ok()?)?)?
            }
        };
        self.room = self.room.checked_sub(value.len())?;
        name.clone_from(value);
        Some(())
    }
}

/// Names as bytes: their number, and of each how much it has in common with the one before it, how much
/// follows, and what.
fn table(names: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_varint(names.len() as u64, &mut bytes);
    let mut before: &[u8] = &[];
    for name in names.iter().map(String::as_bytes) {
        let common = before.iter().zip(name).take_while(|(a, b)| a == b).count();
        let own = &name[common..];
        encode_varint(common as u64, &mut bytes);
        encode_varint(own.len() as u64, &mut bytes);
        bytes.extend_from_slice(own);
        before = name;
    }
    bytes
}

/// Reads [`table`]; `None` for other bytes, and for names that take more than `room` bytes.
fn read_table(bytes: &mut &[u8], room: &mut usize) -> Option<Vec<String>> {
    let number = |bytes: &mut &[u8]| usize::try_from(decode_varint(bytes).ok()?).ok();
    let count = number(bytes)?;
    // Each name takes two bytes or more.
    let mut names: Vec<String> = Vec::with_capacity(count.min(bytes.len() / 2));
    for _ in 0..count {
        let (common, own) = (number(bytes)?, number(bytes)?);
        let before = names.last().map_or("", String::as_str).as_bytes().get(..common)?;
        *room = room.checked_sub(common.checked_add(own)?)?;
        let name = [before, bytes.get(..own)?].concat();
        bytes.advance(own);
        names.push(String::from_utf8(name).ok()?);
    }
    Some(names)
}

#[cfg(test)]
mod tests;
