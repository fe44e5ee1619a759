//! Kills runs, or fails as on a full disk, at every system call that changes a file.
//!
//! `strace` counts the calls of a run. Then it kills the process at each of them in turn, or lets the
//! call fail. Afterwards, all files must be the old ones or the new ones, whole. The next run must
//! remove what a killed run has left.

#![cfg(target_os = "linux")]

mod lab;
mod nets;

use lab::{Lab, Together};

fn words<const N: usize>(command: [&str; N]) -> Vec<String> {
    command.map(str::to_owned).to_vec()
}

/// A command line from its parts.
fn line(parts: &[&[&str]]) -> Vec<String> {
    parts.concat().into_iter().map(str::to_owned).collect()
}

/// Arguments that make a run short.
const FEW: [&str; 4] = ["--samples", "4", "--runtime", "tract"];

/// What a plan notes would differ from run to run without it.
const MEMORY: [&str; 2] = ["--memory", "1GB"];

/// The command for the nets of either folder.
fn both(command: impl Fn(&str) -> Vec<String>) -> (Vec<String>, Vec<String>) {
    (command("OLD"), command("NEW"))
}

#[test]
fn a_split_changes_all_of_its_files_at_once() {
    let lab = Lab::new();
    let split = |nets: &str| words(["split", &format!("{nets}/joint.onnx"), "-o", "tasks"]);
    let (old, new) = both(split);
    lab.endure(Some(&old), &new, Together::All);
}

#[test]
fn a_first_split_is_there_or_not() {
    let lab = Lab::new();
    lab.endure(None, &words(["split", "NEW/joint.onnx", "-o", "deep/tasks"]), Together::All);
}

#[test]
fn a_merge_leaves_the_old_model_or_the_new_one() {
    let lab = Lab::new();
    let (old, new) = both(|nets| {
        let [a, b] = ["a", "b"].map(|name| format!("{nets}/{name}.onnx"));
        let merge = ["merge", &a, &b, "-o", "joint.onnx", "--name", "a", "--name", "b"];
        line(&[&merge, &["--report", "joint.html", "--save-plan", "joint.toml"], &MEMORY, &FEW])
    });
    lab.endure(Some(&old), &new, Together::Each);
}

#[test]
fn commands_of_one_file_leave_the_old_one_or_the_new_one() {
    let lab = Lab::new();
    let commands: [fn(&str) -> Vec<String>; 6] = [
        |nets| words(["extract", &format!("{nets}/joint.onnx"), "--task", "b", "-o", "out.onnx"]),
        |nets| words(["import", &format!("{nets}/training"), "-o", "out.onnx"]),
        |nets| {
            let prune = ["prune", &format!("{nets}/a.onnx"), "--sparsity", "0.5"];
            line(&[&prune, &["-o", "out.onnx"], &FEW])
        },
        |nets| {
            let calibrate = ["calibrate", &format!("{nets}/a.onnx"), "--data", "OLD/x.npy"];
            line(&[&calibrate, &["-o", "out.gram"], &FEW])
        },
        |nets| {
            let statistics = format!("{nets}/a.gram");
            words(["calibrate", "--merge", &statistics, &statistics, "-o", "out.gram"])
        },
        |nets| words(["strip", &format!("{nets}/joint.onnx"), "-o", "out.onnx"]),
    ];
    for command in commands {
        let (old, new) = both(command);
        lab.endure(Some(&old), &new, Together::All);
    }
}

#[test]
fn a_frontier_leaves_old_files_or_new_ones() {
    let lab = Lab::new();
    let (old, new) = both(|nets| {
        let [a, b] = ["a", "b"].map(|name| format!("{nets}/{name}.onnx"));
        let frontier = ["frontier", &a, &b, "--points", "2", "--data", "OLD/x.npy"];
        line(&[&frontier, &["--report", "curve.html", "--plans", "curve"], &MEMORY, &FEW])
    });
    lab.endure(Some(&old), &new, Together::Each);
}

#[test]
fn an_export_is_there_or_not() {
    let lab = Lab::new();
    lab.endure(None, &lab::exporting("NEW", "training"), Together::Once);
}

#[test]
fn a_retraining_leaves_the_old_model_or_the_new_one() {
    let lab = Lab::new();
    let (old, new) = both(|nets| {
        let [joint, a, b] = ["joint", "a", "b"].map(|name| format!("{nets}/{name}.onnx"));
        let retrain = ["retrain", &joint, "--teacher", &a, "--teacher", &b, "--data", "OLD/x.npy"];
        let few = ["--iterations", "2", "--batch", "4", "--runtime", "tract"];
        line(&[&retrain, &few, &["-o", "out.onnx", "--checkpoint", "out.ckpt"]])
    });
    lab.endure(Some(&old), &new, Together::Each);
}
