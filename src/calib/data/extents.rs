//! Likely sizes for open extents that the user does not give.
//!
//! Only a run shows whether a net accepts a size: reshapes need multiples, and detectors need sides
//! that can be halved several times. So this is a list of trials, the likeliest first. The caller takes
//! the first one with which all nets run.

use std::collections::BTreeMap;

use super::axes::{dim_key, place_key};
use crate::runtime::{Port, sample_axes};

/// Sizes by their names in [`super::DataOptions::dims`].
pub type Extents = BTreeMap<String, usize>;

/// Height and width of images, both open. Multiples of 32 near 224, and those of lines of text.
const IMAGES: &[(usize, usize)] = &[
    (224, 224),
    (256, 256),
    (320, 320),
    (192, 192),
    (640, 640),
    (48, 320),
    (32, 320),
    (32, 100),
    (64, 64),
    (32, 32),
];

/// Tokens, steps and the like.
const STEPS: &[usize] = &[32, 64, 128, 16, 224, 256, 100, 1024, 16_000];

/// Sizes that a reshape, or a matrix behind one, may expect; tried as sides and as steps.
const ASKED_FOR: &[usize] = &[
    28, 8, 16, 24, 40, 48, 56, 72, 80, 84, 96, 105, 112, 120, 128, 144, 160, 176, 200, 227, 240,
    299, 331, 384, 416, 448, 480, 512, 600, 608, 672, 768, 800, 1024,
];

/// Channels of images.
const CHANNELS: &[usize] = &[3, 1];

/// The meaning of an open extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Channels,
    Height,
    Width,
    Steps,
}

/// One open extent of an input.
struct Open {
    key: String,
    kind: Kind,
    /// The extent that another net fixes for the same axis.
    aligned: Option<usize>,
}

/// Sizes to try for the open extents of `nets` that `given` does not fix, the likeliest first; none if
/// nothing is open. Extents with the same name have the same size.
pub fn trials(nets: &[&[Port]], given: &Extents) -> Vec<Extents> {
    let mut open: Vec<Open> = Vec::new();
    for (net, port, axis) in open_axes(nets) {
        let Some(input) = nets.get(net).and_then(|ports| ports.get(port)) else { continue };
        let key = dim_key(input, axis);
        let is_given = given.contains_key(&key) || given.contains_key(&place_key(input, axis));
        if is_given || open.iter().any(|own| own.key == key) {
            continue;
        }
        let rank = input.shape.as_ref().map_or(0, Vec::len);
        let aligned = nets.iter().find_map(|other| {
            let shape = other.get(port)?.shape.as_ref().filter(|shape| shape.len() == rank)?;
            shape.get(axis)?.known()
        });
        open.push(Open { key, kind: kind(input, rank, axis), aligned });
    }
    if open.is_empty() {
        return Vec::new();
    }
    let mut all: Vec<Extents> = Vec::new();
    let mut add = |trial: Extents| {
        if !all.contains(&trial) {
            all.push(trial);
        }
    };
    for aligns in [true, false] {
        for channels in CHANNELS {
            for place in 0..IMAGES.len().max(STEPS.len()) {
                let steps = STEPS[place.min(STEPS.len() - 1)];
                let (height, width) = IMAGES[place.min(IMAGES.len() - 1)];
                add(trial(&open, [*channels, height, width, steps], aligns));
            }
        }
    }
    // Few models take one size only, so rare sizes are tried last.
    for size in ASKED_FOR.iter().copied().chain(1..=64) {
        for channels in CHANNELS {
            add(trial(&open, [*channels, size, size, size], true));
        }
    }
    all
}

/// A name in `given` that is not an open extent of `nets`, with the names of all open extents except first
/// axes; `None` if there is no such name.
pub fn unknown(nets: &[&[Port]], given: &Extents) -> Option<(String, Vec<String>)> {
    let (mut open, mut places) = (Vec::new(), Vec::new());
    for (net, port, axis) in open_axes(nets) {
        let Some(input) = nets.get(net).and_then(|ports| ports.get(port)) else { continue };
        let key = dim_key(input, axis);
        places.push(place_key(input, axis));
        if !open.contains(&key) {
            open.push(key);
        }
    }
    let is_known = |name: &&String| open.contains(name) || places.contains(name);
    let name = given.keys().find(|name| !is_known(name))?.clone();
    Some((name, open))
}

/// Net, input and axis of every open extent, except the axis that counts samples.
fn open_axes(nets: &[&[Port]]) -> Vec<(usize, usize, usize)> {
    let mut axes = Vec::new();
    for (net, ports) in nets.iter().enumerate() {
        for ((port, input), samples) in ports.iter().enumerate().zip(sample_axes(ports)) {
            let shape = input.shape.iter().flatten().enumerate();
            let open = shape.filter(|(axis, dim)| *axis != samples && dim.known().is_none());
            axes.extend(open.map(|(axis, _)| (net, port, axis)));
        }
    }
    axes
}

/// Images are [batch, channels, height, width], or with the channels last.
fn kind(port: &Port, rank: usize, axis: usize) -> Kind {
    let last = |axis: usize| {
        let dim = port.shape.as_ref().and_then(|shape| shape.get(axis));
        dim.and_then(crate::ir::Dim::known).is_some_and(|n| n <= 4)
    };
    match (rank, axis) {
        (4, 1) if last(3) => Kind::Height,
        (4, 2) if last(3) => Kind::Width,
        (4, 1) => Kind::Channels,
        (4, 2) => Kind::Height,
        (4, 3) => Kind::Width,
        _ => Kind::Steps,
    }
}

/// A size for every open extent, by its meaning: channels, height, width or steps.
fn trial(open: &[Open], [channels, height, width, steps]: [usize; 4], aligns: bool) -> Extents {
    let size = |own: &Open| match (own.aligned.filter(|_| aligns), own.kind) {
        (Some(aligned), _) => aligned,
        (None, Kind::Channels) => channels,
        (None, Kind::Height) => height,
        (None, Kind::Width) => width,
        (None, Kind::Steps) => steps,
    };
    open.iter().map(|own| (own.key.clone(), size(own))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::DataType;
    use crate::ir::builder::shape;

    fn port(name: &str, dims: &str) -> Port {
        Port { name: name.to_owned(), dtype: DataType::F32, shape: Some(shape(dims)) }
    }

    fn sizes(pairs: &[(&str, usize)]) -> Extents {
        pairs.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect()
    }

    #[test]
    fn nothing_is_tried_where_nothing_is_open() {
        let fixed = [port("x", "n,3,8,8")];
        assert!(trials(&[&fixed], &Extents::new()).is_empty());
        let open = [port("x", "n,3,h,8")];
        assert!(trials(&[&open], &sizes(&[("h", 5)])).is_empty());
    }

    #[test]
    fn images_are_tried_at_multiples_of_32() {
        let open = [port("x", "n,3,h,?")];
        let all = trials(&[&open], &Extents::new());
        assert_eq!(all[0], sizes(&[("h", 224), ("x:3", 224)]));
        assert!(all.contains(&sizes(&[("h", 48), ("x:3", 320)])));
        // A matrix behind a Flatten may take one size only.
        assert!(all.contains(&sizes(&[("h", 28), ("x:3", 28)])));
        assert!(all.contains(&sizes(&[("h", 19), ("x:3", 19)])));
    }

    #[test]
    fn what_another_net_fixes_comes_first() {
        let (open, fixed) = ([port("x", "n,3,h,w")], [port("y", "n,3,32,320")]);
        let all = trials(&[&open, &fixed], &Extents::new());
        assert_eq!(all[..2], [sizes(&[("h", 32), ("w", 320)]), sizes(&[("h", 224), ("w", 224)])]);
    }

    #[test]
    fn names_of_no_open_extent_are_told() {
        let open = [port("x", "n,3,h,?"), port("z", "n,4")];
        let wrong = |name: &str| unknown(&[&open], &sizes(&[(name, 5)]));
        for name in ["h", "x:2", "x:3"] {
            assert_eq!(wrong(name), None, "{name}");
        }
        for name in ["n", "x:1", "z:1", "width"] {
            let open = ["h", "x:3"].map(str::to_owned).to_vec();
            assert_eq!(wrong(name), Some((name.to_owned(), open)));
        }
    }

    #[test]
    fn inputs_with_the_same_extent_get_the_same_size() {
        let open = [port("ids", "n,length"), port("mask", "n,length")];
        assert_eq!(trials(&[&open], &Extents::new())[0], sizes(&[("length", 32)]));
    }
}
