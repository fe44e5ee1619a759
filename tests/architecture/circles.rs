//! Checks that files of one room use each other in one direction.
//!
//! A file may use its parent modules: a `mod.rs` holds a trait and the table of its rows, and each row
//! is a file of its own. All other uses must not lead back to the file. The check sees paths only, not
//! calls of methods.

use std::collections::{BTreeMap, BTreeSet};

use super::scanner::{Source, is_word, sources};

/// Circles that stay, by the beginnings of their files' paths, and why.
const KNOWN: &[(&[&str], &str)] = &[
    (
        &["ir/graph", "ir/index", "ir/node"],
        "a node may hold a graph, as a branch of `If` does, and a graph holds nodes",
    ),
    (
        &["onnx/external", "onnx/tensor"],
        "a tensor may lie in an external file, and a file holds encoded tensors",
    ),
    (
        &["ops/elementwise", "ops/join", "ops/sizes", "ops/table", "ops/types/", "ops/view"],
        "an operator's sizes may be computed by other operators, whose rules read sizes",
    ),
    (
        &["ops/gate", "ops/layer"],
        "a gate is a kind of layer, and its weight is a part of the layer's",
    ),
    (
        &["canon/limits", "canon/types"],
        "types are inferred within limits, and limits are checked on inferred types",
    ),
    (
        &["emit/forms/", "emit/nodes/", "emit/task", "emit/trainable", "emit/value/"],
        "the task emitter is one structure whose methods stand in one file per kind of node",
    ),
];

#[test]
fn files_of_a_room_form_no_circles() {
    let mut unused: BTreeSet<&str> = KNOWN.iter().map(|(_, reason)| *reason).collect();
    let mut wrong = Vec::new();
    for circle in circles(&sources()) {
        let holds = |paths: &[&str]| circle.iter().all(|f| paths.iter().any(|p| f.starts_with(p)));
        match KNOWN.iter().find(|(paths, _)| holds(paths)) {
            Some((_, reason)) => {
                unused.remove(reason);
            }
            None => wrong.push(format!("these use each other: {}", circle.join(", "))),
        }
    }
    wrong.extend(unused.iter().map(|reason| format!("no circle any more: {reason}")));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn circles_are_seen_through_exports_and_not_through_parents() {
    let files = |files: &[(&str, &str)]| {
        let source = |(path, code): &(&str, &str)| Source {
            path: (*path).to_owned(),
            code: (*code).to_owned(),
        };
        circles(&files.iter().map(source).collect::<Vec<_>>())
    };
    let parent = ("room/mod.rs", "mod a; mod b; pub use b::B; pub struct P; fn f() { a::f() }");
    let (a, b) = (("room/a.rs", "use super::{P, B};"), ("room/b.rs", "use super::a::{self};"));
    assert_eq!(files(&[parent, a, b]), [["room/a.rs", "room/b.rs"]]);
    assert!(files(&[parent, a, ("room/b.rs", "use super::P;")]).is_empty());
    assert!(files(&[parent, ("room/a.rs", "fn f() { super::f() }"), b]).is_empty());
    let inline = ("room/a.rs", "fn f() { crate::room::b::g() }");
    assert_eq!(files(&[parent, inline, b]), [["room/a.rs", "room/b.rs"]]);
}

type Module = Vec<String>;

/// The groups of files of one room that use each other, each by path.
fn circles(sources: &[Source]) -> Vec<Vec<String>> {
    let known: BTreeMap<Module, Uses> =
        sources.iter().map(|s| (s.path_of_module(), Uses::of(&s.code))).collect();
    let used: BTreeMap<&Module, BTreeSet<Module>> =
        known.iter().map(|(module, uses)| (module, uses.modules(module, &known))).collect();
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        used.keys().map(|from| (*from, reach(from, &used))).collect();
    let mut seen = BTreeSet::new();
    let mut circles = Vec::new();
    for (from, to) in &reached {
        let circle: Vec<&Module> =
            to.iter().copied().filter(|other| reached[*other].contains(from)).collect();
        if circle.len() > 1 && !circle.iter().any(|module| seen.contains(module)) {
            let of_circle = |s: &&Source| circle.contains(&&s.path_of_module());
            circles.push(sources.iter().filter(of_circle).map(|s| s.path.clone()).collect());
            seen.extend(circle);
        }
    }
    circles
}

/// All modules that `from` uses, directly or through others.
fn reach<'a>(
    from: &'a Module,
    used: &'a BTreeMap<&Module, BTreeSet<Module>>,
) -> BTreeSet<&'a Module> {
    let mut found = BTreeSet::new();
    let mut open = vec![from];
    while let Some(module) = open.pop() {
        let next = used.get(module).into_iter().flatten();
        open.extend(next.filter(|module| found.insert(*module)));
    }
    found
}

/// The paths in a file's code.
struct Uses {
    /// Names that `use` imports, each with its path.
    names: Vec<(String, String)>,
    /// Paths that the code itself uses, without mere re-exports.
    paths: BTreeSet<String>,
}

impl Uses {
    fn of(code: &str) -> Uses {
        let mut body = code.to_owned();
        let (mut names, mut paths) = (Vec::new(), BTreeSet::new());
        let mut exported = Vec::new();
        while let Some((start, is_export)) = next_use(&body) {
            let end = body[start..].find(';').map_or(body.len(), |n| start + n + 1);
            let tree: String =
                body[start + 4..end].split_whitespace().collect::<Vec<_>>().join(" ");
            for (name, path) in expanded("", tree.trim_end_matches(';')) {
                if is_export {
                    exported.push((name.clone(), path.clone()));
                } else {
                    paths.insert(path.clone());
                }
                names.push((name, path));
            }
            body.replace_range(start..end, &" ".repeat(end - start));
        }
        let words: BTreeSet<&str> = body.split(|c| !is_word(c)).collect();
        paths.extend(exported.into_iter().filter(|(n, _)| words.contains(&**n)).map(|(_, p)| p));
        let runs = body.split(|c| !is_word(c) && c != ':').map(|run| run.trim_end_matches(':'));
        paths.extend(runs.filter(|run| run.contains("::")).map(str::to_owned));
        Uses { names, paths }
    }

    /// The modules of the same room that the file uses, except its parents.
    fn modules(&self, own: &Module, known: &BTreeMap<Module, Uses>) -> BTreeSet<Module> {
        let target = |path: &String| resolved(&absolute(path, own, known)?, known, 0);
        let is_other = |to: &Module| to.first() == own.first() && !own.starts_with(to);
        self.paths.iter().filter_map(target).filter(is_other).collect()
    }
}

/// The position of the next `use`, and whether it is a re-export.
fn next_use(code: &str) -> Option<(usize, bool)> {
    let starts = code.match_indices("use ").map(|(at, _)| at);
    let at = starts.into_iter().find(|at| !code[..*at].ends_with(is_word))?;
    let before = code[..at].trim_end();
    Some((at, before.ends_with("pub") || before.ends_with(')')))
}

/// The names that a tree of `use` imports, each with its path.
fn expanded(prefix: &str, tree: &str) -> Vec<(String, String)> {
    let tree = tree.trim();
    if let Some((head, list)) = tree.split_once('{') {
        let list = list.trim_end().trim_end_matches('}');
        let mut depth = 0;
        let outermost = list.split(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        });
        let prefix = format!("{prefix}{}", head.trim());
        return outermost.flat_map(|entry| expanded(&prefix, entry)).collect();
    }
    let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
    let path = match path {
        "" => return Vec::new(),
        "self" => prefix.trim_end_matches(':').to_owned(),
        path => format!("{prefix}{path}"),
    };
    let last = path.rsplit("::").next().unwrap_or_default().to_owned();
    vec![(if alias.is_empty() { last } else { alias.to_owned() }, path)]
}

/// A path from the crate's root; `None` for one of another crate.
fn absolute(path: &str, own: &Module, known: &BTreeMap<Module, Uses>) -> Option<Module> {
    let segments: Vec<&str> = path.split("::").collect();
    let mut base = own.clone();
    let mut rest = &segments[..];
    match rest {
        ["crate", ..] => base.clear(),
        ["self" | "super", ..] => {}
        [first, ..] => {
            let child: Module = own.iter().cloned().chain([(*first).to_owned()]).collect();
            known.get(&child)?;
        }
        [] => return None,
    }
    while let Some((first @ (&"crate" | &"self" | &"super"), behind)) = rest.split_first() {
        if *first == "super" {
            base.pop();
        }
        rest = behind;
    }
    Some(base.into_iter().chain(rest.iter().map(|s| (*s).to_owned())).collect())
}

/// The module that defines the item of a path, with re-exports resolved.
fn resolved(path: &Module, known: &BTreeMap<Module, Uses>, depth: usize) -> Option<Module> {
    let end = (1..=path.len()).rev().find(|end| known.contains_key(&path[..*end]))?;
    let (module, rest) = (path[..end].to_vec(), &path[end..]);
    let exported = rest.first().filter(|_| depth < 8).and_then(|name| {
        let (_, target) = known[&module].names.iter().find(|(known, _)| known == name)?;
        let mut target = absolute(target, &module, known)?;
        target.extend(rest[1..].iter().cloned());
        resolved(&target, known, depth + 1)
    });
    Some(exported.unwrap_or(module))
}
