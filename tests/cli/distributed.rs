//! Merges with statistics from workers.

#![cfg(unix)]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::tool::{Tool, ended, files, fixture, images, stderr};

/// A process that is killed when it is dropped, for tests that end early.
struct Process(Child);

impl Process {
    fn start(tool: &Tool, args: &[&str]) -> Process {
        let mut command = tool.command(args);
        Process(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Waits for its end; returns the exit code and the output.
    fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        std::io::Read::read_to_string(self.0.stderr.as_mut().unwrap(), &mut said).unwrap();
        (self.0.wait().unwrap().code(), said)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if the process has ended, as most have.
        let _ = self.0.kill();
    }
}

const WORKER: [&str; 7] = ["worker", "--folder", "crew", "--patience", "3", "--runtime", "tract"];

fn nets() -> [String; 2] {
    ["a", "b"].map(|n| fixture(&format!("models/lenet5_mnist_{n}.onnx")))
}

/// A merge of two small convolutional nets, in shards.
fn merge<'a>(nets: &'a [String; 2], data: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let [a, b] = nets;
    let mut args = vec!["merge", a, b, "--data", data, "--samples", "200", "--runtime", "tract"];
    args.extend(["--no-compare", "--shards", "3"]);
    args.extend(more);
    args
}

/// Waits until a file exists and its contents satisfy `is`.
fn wait(path: &Path, is: impl Fn(&str) -> bool) {
    let start = Instant::now();
    while !fs::read_to_string(path).is_ok_and(|text| is(&text)) {
        assert!(start.elapsed() < Duration::from_secs(120), "no {}", path.display());
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn workers_make_the_file_of_one_process_though_one_of_them_dies() {
    let (tool, nets, data) = (Tool::new(), nets(), images());
    tool.run(0, &merge(&nets, &data, &["-o", "alone.onnx"]));
    let alone = fs::read(tool.path("alone.onnx")).unwrap();
    let mut first = Process::start(&tool, &WORKER);
    let joint = merge(&nets, &data, &["-o", "joint.onnx", "--workers", "crew"]);
    let joint = Process::start(&tool, &joint);
    let last = |text: &str| text.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    wait(&tool.path("crew/current"), |text| last(text) >= 3);
    first.kill();
    // The killed worker leaves claims and half of the replies behind.
    let others = [Process::start(&tool, &WORKER), Process::start(&tool, &WORKER)];
    let (code, said) = joint.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(fs::read(tool.path("joint.onnx")).unwrap() == alone);
    for worker in others {
        assert_eq!(worker.end().0, Some(0));
    }
    let left: Vec<String> = files(&tool.path("crew")).into_iter().map(|(name, _)| name).collect();
    assert_eq!(left, ["end"]);
    // A worker that comes too late has nothing to do.
    tool.run(0, &WORKER);
}

#[test]
fn workers_end_with_a_merge_that_is_stopped_at_once() {
    let (tool, nets, data) = (Tool::new(), nets(), images());
    let worker = Process::start(&tool, &WORKER);
    let joint = merge(&nets, &data, &["-o", "joint.onnx", "--workers", "crew"]);
    let joint = Process::start(&tool, &joint);
    wait(&tool.path("crew/current"), |text| !text.is_empty());
    for _ in 0..2 {
        let kill = Command::new("kill").args(["-INT", &joint.0.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }
    let (code, said) = joint.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(tool.path("crew/end").exists());
    for gone in ["nets", "shards", "requests", "replies"] {
        assert!(!tool.path("crew").join(gone).exists(), "{gone}");
    }
    let (code, said) = worker.end();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn shards_share_what_the_whole_shares() {
    let (tool, nets, data) = (Tool::new(), nets(), images());
    tool.run(0, &merge(&nets, &data, &["-o", "sharded.onnx"]));
    let mut whole = merge(&nets, &data, &["-o", "whole.onnx"]);
    whole.retain(|arg| !["--shards", "3"].contains(arg));
    tool.run(0, &whole);
    let length = |name: &str| fs::metadata(tool.path(name)).unwrap().len();
    assert_eq!(length("sharded.onnx"), length("whole.onnx"));
}

#[test]
fn a_worker_that_cannot_read_samples_ends_the_merge_with_its_reason() {
    let (tool, nets) = (Tool::new(), nets());
    fs::copy(images(), tool.path("images.npz")).unwrap();
    let args = merge(&nets, "images.npz", &["-o", "joint.onnx", "--workers", "crew"]);
    let joint = Process::start(&tool, &args);
    // From here on the merge itself reads no samples.
    wait(&tool.path("crew/current"), |text| !text.is_empty());
    fs::remove_file(tool.path("images.npz")).unwrap();
    let worker = ended(2, &mut tool.command(&WORKER));
    assert!(stderr(&worker).contains("images.npz"), "{}", stderr(&worker));
    let (code, said) = joint.end();
    assert_eq!(code, Some(2));
    assert!(said.contains("a worker cannot go on") && said.contains("images.npz"), "{said}");
    assert!(!tool.path("joint.onnx").exists());
}

#[test]
fn folders_of_workers_are_new_and_shards_known() {
    let (tool, nets, data) = (Tool::new(), nets(), images());
    fs::create_dir(tool.path("crew")).unwrap();
    fs::write(tool.path("crew/notes"), "mine").unwrap();
    let args = merge(&nets, &data, &["-o", "joint.onnx", "--workers", "crew"]);
    assert!(tool.refused(&args).contains("not empty"));
    assert_eq!(fs::read_to_string(tool.path("crew/notes")).unwrap(), "mine");
    let mut many = merge(&nets, &data, &["-o", "joint.onnx", "--shards", "201"]);
    many.retain(|arg| *arg != "3");
    let at = many.iter().position(|arg| *arg == "--shards").unwrap();
    many.remove(at);
    assert!(tool.refused(&many).contains("200 samples cannot be cut into 201 shards"));
}
