//! Compares the documentation with the code: pages name only what exists, and lists on pages are
//! complete.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use onnx_zip::emit::{FORM_KEY, FORMS, RECIPE_KEY, STRUCTURE_KEY};
use onnx_zip::grad::differentiable_ops;
use onnx_zip::mtz::matching::MATCHERS;
use onnx_zip::mtz::solver::pair_cost::Metric;
use onnx_zip::ops::known_ops;
use onnx_zip::verify::DEVIATION_KEY;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_table_of_operators_is_that_of_the_code() {
    let page = read("docs/operators.md");
    let mut documented: BTreeMap<&str, bool> = BTreeMap::new();
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let gradient = match cells[3] {
            "yes" => true,
            "no" => false,
            other => panic!("'{other}' in the column of gradients: {row}"),
        };
        for op in cells[1].split('`').skip(1).step_by(2) {
            assert!(documented.insert(op, gradient).is_none(), "{op} has two rows");
        }
    }
    let differentiable = differentiable_ops();
    let known: BTreeMap<&str, bool> =
        known_ops().into_iter().map(|op| (op, differentiable.contains(&op))).collect();
    assert_eq!(documented, known);
}

#[test]
fn every_reason_to_need_whole_channels_is_explained() {
    let page = read("docs/operators.md");
    let mut reasons = BTreeSet::new();
    for path in files_below(&root().join("src/ops"), "rs") {
        let code = read(path);
        for start in ["whole(\"", "whole_alike(node, \"", "reason = \""] {
            let found = code.split(start).skip(1).filter_map(|rest| rest.split('"').next());
            reasons.extend(found.map(str::to_owned));
        }
    }
    assert!(reasons.len() > 20);
    let missing: Vec<&String> = reasons.iter().filter(|r| !page.contains(r.as_str())).collect();
    assert!(missing.is_empty(), "docs/operators.md does not explain {missing:?}");
}

#[test]
fn choices_and_keys_are_documented() {
    let (method, format) = (read("docs/method.md"), read("docs/joint-format.md"));
    for name in MATCHERS.map(|entry| entry.name) {
        assert!(method.contains(&format!("`{name}`")), "matcher {name}");
    }
    for (_, name, _) in Metric::ALL {
        assert!(method.contains(&format!("--metric {name}`")), "metric {name}");
    }
    for (name, ..) in FORMS {
        assert!(format.contains(&format!("### {name}\n")), "form {name}");
        assert!(read("README.md").contains(&format!("`--form {name}`")), "form {name}");
    }
    for key in [RECIPE_KEY, STRUCTURE_KEY, FORM_KEY, DEVIATION_KEY] {
        assert!(format.contains(&format!("`{key}`")), "{key}");
    }
}

#[test]
fn every_example_is_listed() {
    let list = read("examples/README.md");
    for suffix in ["rs", "py", "sh"] {
        for path in files_below(&root().join("examples"), suffix) {
            let name = path.strip_prefix("examples").unwrap().display().to_string();
            assert!(list.contains(&format!("({name})")), "{name}");
        }
    }
}

#[test]
fn every_page_is_in_the_index() {
    let index = read("docs/README.md");
    let lost: Vec<String> = files_below(&root().join("docs"), "md")
        .into_iter()
        .map(|path| path.strip_prefix("docs").unwrap().display().to_string())
        .filter(|page| page != "README.md" && !index.contains(&format!("({page})")))
        .collect();
    assert!(lost.is_empty(), "docs/README.md does not list {lost:?}");
}

#[test]
fn the_picture_is_that_of_the_tables() {
    let python = std::env::var("ONNX_ZIP_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = root().join("examples/picture.py");
    let done = Command::new(python).arg(script).arg("--check").output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = read(&page);
        for target in links(&text) {
            if target.contains("://") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = match path {
                "" => page.clone(),
                _ => page.parent().unwrap_or(Path::new("")).join(path),
            };
            let found = root().join(&file).exists()
                && (anchor.is_empty() || anchors(&read(&file)).contains(anchor));
            if !found {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn named_sources_exist() {
    let mut missing = Vec::new();
    for page in pages() {
        for code in code_in(&read(&page)) {
            let is_path =
                |w: &&str| ["src/", "tests/", "examples/"].iter().any(|start| w.starts_with(start));
            let lost = code.split_whitespace().filter(is_path).filter(|w| !root().join(w).exists());
            missing.extend(lost.map(|w| format!("{}: {w}", page.display())));
        }
    }
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
}

#[test]
fn commands_and_options_exist() {
    let (commands, options) = command_line();
    let mut unknown = Vec::new();
    for page in pages() {
        for code in code_in(&read(&page)) {
            let words: Vec<&str> =
                code.split(|c: char| c.is_whitespace() || "=(),;".contains(c)).collect();
            for pair in words.windows(2) {
                let is_word = |w: &str| !w.is_empty() && w.chars().all(|c| c.is_ascii_lowercase());
                if pair[0] == "onnx-zip" && is_word(pair[1]) && !commands.contains(pair[1]) {
                    unknown.push(format!("{}: command {}", page.display(), pair[1]));
                }
            }
            if is_of_another_program(&words, &commands) {
                continue;
            }
            let flags = words.iter().filter(|w| w.starts_with("--") && w.len() > 2);
            let strange = flags.filter(|w| !options.contains(**w));
            unknown.extend(strange.map(|w| format!("{}: option {w}", page.display())));
        }
    }
    assert!(unknown.is_empty(), "\n{}", unknown.join("\n"));
}

/// Whether a line of code calls another program, which has options of its own.
fn is_of_another_program(words: &[&str], commands: &BTreeSet<String>) -> bool {
    let first = words.iter().find(|w| !w.is_empty()).copied().unwrap_or("");
    !first.starts_with("--") && !commands.contains(first) && !words.contains(&"onnx-zip")
}

/// The commands of the tool, and the options of all commands.
fn command_line() -> (BTreeSet<String>, BTreeSet<String>) {
    let help = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_onnx-zip")).args(args).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let overview = help(&["--help"]);
    let listed = overview.split("Commands:").nth(1).and_then(|s| s.split("\n\n").next()).unwrap();
    let commands: BTreeSet<String> =
        listed.lines().filter_map(|l| l.split_whitespace().next()).map(str::to_owned).collect();
    let mut options = BTreeSet::new();
    for command in commands.iter().filter(|c| *c != "help") {
        let text = help(&[command, "--help"]);
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        options.extend(words.filter(|w| w.starts_with("--")).map(str::to_owned));
    }
    assert!(commands.contains("merge") && options.contains("--output"));
    (commands, options)
}

/// Every page of the repository, relative to its root.
fn pages() -> Vec<PathBuf> {
    let pages = files_below(root(), "md");
    assert!(pages.contains(&PathBuf::from("README.md")));
    pages
}

/// Files below a folder, relative to the repository, except built and installed ones.
fn files_below(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "out" {
                found.extend(files_below(&path, suffix));
            }
        } else if path.extension().is_some_and(|s| s == suffix) {
            found.push(path.strip_prefix(root()).unwrap().to_owned());
        }
    }
    found.sort();
    found
}

/// The targets of links outside code blocks.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|part| part.split("](").skip(1)).filter_map(|rest| rest.split(')').next())
}

/// Valid anchors of links into a page: its headings, and ids.
fn anchors(text: &str) -> BTreeSet<String> {
    let slug = |heading: &str| -> String {
        let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
        heading.trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
    };
    let headings = text.lines().filter(|l| l.starts_with('#')).map(|l| slug(l.trim_matches('#')));
    let ids = text.split("id=\"").skip(1).filter_map(|rest| rest.split('"').next());
    headings.chain(ids.map(str::to_owned)).collect()
}

/// Lines of code blocks (with continuation lines joined), and code inside sentences.
fn code_in(text: &str) -> Vec<String> {
    let mut code = Vec::new();
    for (i, part) in text.split("```").enumerate() {
        if i % 2 == 1 {
            code.extend(part.replace("\\\n", " ").lines().map(str::to_owned));
        } else {
            code.extend(part.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    code
}
