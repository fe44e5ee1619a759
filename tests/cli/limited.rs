//! Streams that cannot be written, limits of the system, and what is typed wrongly.

#![cfg(unix)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::tool::{Tool, ended, fashion, files, images, mnist, refused, stderr};

/// The tool with these arguments, in a shell that first runs `before`.
fn after(before: &str, tool: &Tool, args: &[&str]) -> Command {
    let command = tool.command(args);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{before} && exec \"$@\""), "sh"]);
    shell.arg(command.get_program()).args(command.get_args()).current_dir(tool.path("."));
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

#[test]
fn help_that_cannot_be_printed_is_an_error() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    for args in [&["--version"][..], &["--help"], &["help"], &["help", "merge"], &["plan", "-h"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = ended(2, Tool::new().command(args).stdout(Stdio::from(full)));
        let said = stderr(&output);
        assert!(said.starts_with("error: cannot write to standard output (No space"), "{said}");
    }
}

#[test]
fn files_larger_than_allowed_are_an_error() {
    let tool = Tool::new();
    tool.merge(&["--name", "a", "--name", "b", "--share", "1", "--no-verify", "--quiet"]);
    let commands: [&[&str]; 3] = [
        &["extract", "joint.onnx", "--task", "a", "-o", "x.onnx"],
        &["split", "joint.onnx", "-o", "tasks"],
        &["strip", "joint.onnx", "-o", "s.onnx"],
    ];
    for args in commands {
        let error = refused(&mut after("ulimit -f 0", &tool, args), &tool.path("."));
        assert!(error.contains("File too large"), "{args:?}: {error}");
    }
}

#[test]
fn threads_that_find_no_memory_are_an_error() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let (tool, a, b) = (Tool::new(), mnist(), fashion());
    let args = ["merge", &a, &b, "-o", "j.onnx", "--runtime", "tract", "--threads", "3000"];
    let error = refused(&mut after("ulimit -v 2000000", &tool, &args), &tool.path("."));
    assert!(error.contains("cannot start 3000 threads"), "{error}");
    assert!(error.ends_with("; allow more processes or memory, or fewer --threads"), "{error}");
}

#[test]
fn products_that_find_no_memory_are_an_error() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let (tool, a, b) = (Tool::new(), mnist(), fashion());
    let args = ["merge", &a, &b, "-o", "j.onnx", "--runtime", "tract", "--threads", "24"];
    let error = refused(&mut after("ulimit -v 3000000", &tool, &args), &tool.path("."));
    assert!(error.contains("matrix products on 24 threads find no memory"), "{error}");
}

#[test]
fn a_folder_that_is_none_is_told_like_everywhere() {
    let (tool, a, b, x) = (Tool::new(), mnist(), fashion(), images());
    tool.write("file", b"x");
    std::os::unix::fs::symlink("nowhere", tool.path("dangling")).unwrap();
    for option in ["--plans", "--keep"] {
        for folder in ["file", "dangling"] {
            let args = ["frontier", &a, &b, "--data", &x, option, folder];
            let error = tool.refused(&args);
            assert!(error.contains(&format!("cannot write '{folder}'")), "{error}");
            assert!(error.ends_with("; name a folder"), "{error}");
        }
    }
}

#[test]
fn a_curve_that_fails_leaves_no_empty_folders() {
    let (tool, a) = (Tool::new(), mnist());
    let before = files(&tool.path("."));
    let args = ["frontier", &a, "missing.onnx", "--data", &images()];
    tool.refused(&[&args[..], &["--keep", "new/kept", "--plans", "new/plans"]].concat());
    assert!(!tool.path("new").exists());
    assert_eq!(files(&tool.path(".")), before);
}

#[test]
fn what_is_typed_wrongly_is_shown_on_one_line() {
    let args = ["plan", "a", "b", "--share", "x\ny\u{202e}"];
    let said = stderr(&ended(2, &mut Tool::new().command(&args)));
    assert!(!said.contains("x\ny") && !said.contains('\u{202e}'), "{said}");
    assert!(said.contains("x\\ny\\u{202e}"), "{said}");
}
