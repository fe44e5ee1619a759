//! Rules of the source tree that the compiler does not check: imports go downward only, files of one room
//! form no circles, each outside crate has one home, files stay short, only tests may panic, and the package
//! holds what the build reads.
//!
//! A failure names the file, the line and the rule. If the code is right and the rule is wrong, change
//! the table and give the reason.

mod circles;
mod package;
mod scanner;

use scanner::{all_files, closing_brace, code_of, is_word, sources, without_tests};

/// Top-level modules from the highest floor to the lowest. A module may use modules on lower floors
/// only, so no two modules can depend on each other.
const FLOORS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["api"],
    &["zipper"],
    &["report"],
    &["compare", "handoff", "retrain"],
    &["verify"],
    &["emit", "prune", "workers"],
    &["mtz"],
    &["grad"],
    &["align", "calib"],
    &["canon", "couple", "runtime"],
    &["onnx", "ops"],
    &["ir", "staging"],
    &["progress"],
    &["error"],
    &["naming"],
];

/// Crates and generated types, the only paths under `src/` that may name them, and why.
const HOMES: &[(&str, &[&str], &str)] = &[
    ("ort", &["runtime/"], "another runtime must not touch the rest"),
    ("tract_onnx", &["runtime/"], "another runtime must not touch the rest"),
    ("prost", &["onnx/"], "the file format has one home"),
    ("proto", &["onnx/"], "generated types stop at the file format"),
    (
        "ndarray_linalg",
        &["mtz/solver/cholesky.rs", "runtime/tract/mod.rs"],
        "LAPACK is called in one file; tract needs the BLAS behind it linked",
    ),
    ("toml", &["zipper/plan_file.rs"], "plans have one format and one reader"),
    ("lapjv", &["mtz/matching/optimal.rs"], "a matcher keeps its algorithm to itself"),
    ("image", &["calib/data/"], "decoding is the data readers' business"),
    ("parquet", &["calib/data/formats/"], "a format has one reader, and the table names it"),
    ("tar", &["calib/data/formats/"], "a format has one reader, and the table names it"),
    ("csv_core", &["calib/data/formats/table.rs"], "a format has one reader"),
    ("hound", &["calib/data/sound.rs"], "a format has one reader"),
    (
        "clap",
        &["cli/", "api/options/"],
        "the library has no command line; options tell the command line how they are read",
    ),
    ("indicatif", &["cli/"], "the library reports progress through `crate::progress`"),
];

/// Limit of lines per file.
const MOST_LINES: usize = 400;

/// Files that may be longer, with the reason.
const LONG: &[(&str, &str)] = &[("onnx/proto.rs", "generated")];

/// Code that panics, or prints as only the command line may do.
const FORBIDDEN: &[&str] = &[
    ".unwrap()",
    ".expect(",
    "panic!",
    "todo!",
    "unimplemented!",
    "dbg!",
    "print!",
    "println!",
    "eprint!",
    "eprintln!",
];

#[test]
fn imports_go_downward_only() {
    let floor = |module: &str| FLOORS.iter().position(|floor| floor.contains(&module));
    let mut wrong = Vec::new();
    for file in sources() {
        let own = file.module();
        let Some(from) = floor(own) else {
            wrong.push(format!("{}: module '{own}' is on no floor", file.path));
            continue;
        };
        for (line, used) in imports(&file.code, file.depth()) {
            let place = format!("{}:{line}", file.path);
            match floor(&used) {
                _ if used == own => {}
                Some(to) if to > from => {}
                Some(_) => wrong.push(format!("{place}: '{own}' must not use '{used}'")),
                None => wrong.push(format!("{place}: '{used}' is on no floor")),
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn outside_crates_have_one_home() {
    let mut wrong = Vec::new();
    for file in sources() {
        for (name, homes, reason) in HOMES {
            if homes.iter().any(|home| file.path.starts_with(home)) {
                continue;
            }
            let lines = (1..).zip(file.code.lines()).filter(|(_, line)| names_crate(line, name));
            wrong.extend(lines.map(|(n, _)| format!("{}:{n}: '{name}': {reason}", file.path)));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn files_are_short() {
    let mut wrong = Vec::new();
    for (path, text) in all_files() {
        let lines = text.lines().count();
        let listed = LONG.iter().any(|(long, _)| *long == path);
        match (lines > MOST_LINES, listed) {
            (true, false) => {
                wrong.push(format!("{path} has {lines} lines, more than {MOST_LINES}"))
            }
            (false, true) => wrong.push(format!("{path} is short again: take it off the list")),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn only_tests_may_panic() {
    let mut wrong = Vec::new();
    for file in sources() {
        for (n, line) in (1..).zip(file.code.lines()) {
            let found = FORBIDDEN.iter().filter(|word| contains_word(line, word));
            wrong.extend(found.map(|word| format!("{}:{n}: {word}", file.path)));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_scanner_sees_code_and_nothing_else() {
    let text = "use crate::{a::B, c::{D, E}};\n// crate::no\nlet s = \"crate::no\"; let c = '\"';\n\
                fn f<'a>(x: &'a str) { super::super::d::f(r#\"crate::no\"#) }\n\
                #[cfg(test)]\nmod tests {\n fn t() { crate::no::g() } }\n#[cfg(test)]\nmod more;\n\
                fn g() { crate::e::f() }\n";
    let (code, tests) = without_tests(&code_of(text));
    let found: Vec<(usize, String)> = imports(&code, 2);
    let expected = [(1, "a"), (1, "c"), (4, "d"), (10, "e")].map(|(n, m)| (n, m.to_owned()));
    assert_eq!(found, expected);
    assert_eq!(tests, ["more"]);
    assert!(names_crate("use ort;", "ort") && names_crate("x(::ort::y)", "ort"));
    assert!(!names_crate("import::x", "ort") && !names_crate("ort.x", "ort"));
    assert!(contains_word("x.unwrap()", ".unwrap()") && !contains_word("println!()", "print!"));
}

/// The top-level modules that code names, each with its line. The file lies `depth` modules deep.
fn imports(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::").chain(code.match_indices("super::")) {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        if is_word(before) || before == ':' {
            continue;
        }
        let mut rest = &code[at..];
        let mut climbed = if rest.starts_with("crate") { depth } else { 0 };
        rest = rest.strip_prefix("crate::").unwrap_or(rest);
        while let Some(outer) = rest.strip_prefix("super::") {
            (rest, climbed) = (outer, climbed + 1);
        }
        if climbed < depth {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        found.extend(first_names(rest).into_iter().map(|name| (line, name)));
    }
    found.sort();
    found
}

/// The first segments of `a::b` or of `{a::b, c::{d, e}}`.
fn first_names(path: &str) -> Vec<String> {
    let word = |s: &str| s.chars().take_while(|c| is_word(*c)).collect::<String>();
    let Some(list) = path.strip_prefix('{') else { return vec![word(path)] };
    let list = &list[..closing_brace(path, 0) - 2];
    let mut depth = 0;
    let outermost = list.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    outermost.map(|entry| word(entry.trim())).filter(|name| !name.is_empty()).collect()
}

/// Whether a line of code has `name` as a segment of a path or imports it whole.
fn names_crate(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + name.len()..]);
        let whole = !before.ends_with(is_word) && !after.starts_with(is_word);
        whole && (after.starts_with("::") || before.trim_end().ends_with("use"))
    })
}

/// Whether a line has `word`, and not only as the end of a longer word.
fn contains_word(line: &str, word: &str) -> bool {
    let bounded = |at: usize| !word.starts_with(is_word) || !line[..at].ends_with(is_word);
    line.match_indices(word).any(|(at, _)| bounded(at))
}
