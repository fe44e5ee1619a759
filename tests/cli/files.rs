//! Names from files that become paths or lines of text, and outputs that are not regular files.

use std::fs;

use onnx_zip::align::TaskId;
use onnx_zip::emit::{EmitOptions, emit, restore};
use onnx_zip::onnx;

use crate::tool::{Tool, fashion, files, fixture, mnist, stderr, stdout};

/// `joint.onnx`, edited so that the second task is called `name`.
fn renamed(name: &str) -> Tool {
    let tool = Tool::new();
    tool.merge(&["--name", "a", "--name", "second", "--no-verify", "--quiet"]);
    let mut joint = restore(&onnx::load(&tool.path("joint.onnx")).unwrap()).unwrap();
    joint.rename(TaskId(1), name);
    let model = emit(&joint, &EmitOptions::default()).unwrap();
    onnx::save(&model, &tool.path("joint.onnx"), &Default::default()).unwrap();
    tool
}

#[test]
fn tasks_whose_names_are_paths_are_refused_everywhere() {
    let absolute = std::env::temp_dir().join("onnx_zip_evil").display().to_string();
    let long = "x".repeat(100_000);
    for name in ["../evil", &absolute, "..", "", "a\\b", "\u{1b}[2Jx", "a", &long] {
        let tool = renamed(name);
        fs::create_dir(tool.path("deep")).unwrap();
        let before = files(&tool.path("."));
        let commands: [&[&str]; 4] = [
            &["split", "joint.onnx", "-o", "deep/tasks"],
            &["extract", "joint.onnx", "--task", name, "-o", "x.onnx"],
            &["extract", "joint.onnx", "--task", "a", "-o", "x.onnx"],
            &["retrain", "joint.onnx", "--export", "deep/out", "--loss", "cross-entropy"],
        ];
        for command in commands {
            let error = tool.refused(command);
            let expected = if name == "a" { "two tasks are called" } else { "cannot name a task" };
            assert!(error.contains(expected), "{command:?}: {error}");
            assert!(error.len() < 1000 && !error.contains('\u{1b}'), "{error}");
        }
        assert!(files(&tool.path("deep")).is_empty());
        assert_eq!(files(&tool.path(".")), before);
    }
}

#[test]
fn names_on_the_command_line_are_held_to_the_same_rule() {
    let long = "x".repeat(201);
    for name in ["../evil", "/tmp/x", "..", ".", "", "a\\b", "a\nb", &long] {
        let tool = Tool::new();
        let args = ["merge", &mnist(), &fashion(), "-o", "j.onnx", "--name", "ok", "--name", name];
        let error = tool.refused(&args);
        assert!(error.contains("cannot name a task"), "{error}");
    }
}

#[test]
fn hostile_names_are_shown_on_one_short_line() {
    let tool = Tool::new();
    let mut model = onnx::load(mnist().as_ref()).unwrap();
    let hostile = format!("\u{1b}[2J\u{9b}31m\n\u{202e}{}", "A".repeat(50_000));
    model.producer.clone_from(&hostile);
    let output = model.graph.outputs[0];
    model.graph.rename_value(output, &hostile);
    onnx::save(&model, &tool.path("a.onnx"), &Default::default()).unwrap();
    let active = |text: &str| text.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}');
    for args in [&["inspect", "a.onnx"][..], &["plan", "a.onnx", "a.onnx"]] {
        let text = stdout(&tool.run(0, args));
        assert!(!active(&text) && text.len() < 5000, "{text}");
    }
    let json = stdout(&tool.run(0, &["inspect", "a.onnx", "--json"]));
    assert!(!active(&json));
    let report: onnx_zip::report::ModelReport = serde_json::from_str(&json).unwrap();
    assert_eq!(report.producer, hostile);
    let merge = ["merge", "a.onnx", "a.onnx", "-o", "j.onnx", "--report", "j.html"];
    let output = tool.run(0, &[&merge[..], &["--runtime", "tract", "--samples", "8"]].concat());
    assert!(!active(&stdout(&output)) && !active(&stderr(&output)));
    assert!(!active(&fs::read_to_string(tool.path("j.html")).unwrap()));
}

#[test]
fn outputs_are_distinct() {
    let tool = Tool::new();
    let merge = ["merge", &mnist(), &fashion(), "-o", "j.json", "--report", "./j.json"];
    assert!(tool.refused(&merge).contains("written twice"));
}

#[cfg(unix)]
mod unix {
    use std::io::Read;
    use std::os::unix::fs::{FileTypeExt, symlink};
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    /// A folder with `joint.onnx`, and `plain.onnx`, a task of it.
    fn joint() -> (Tool, Vec<u8>) {
        let tool = Tool::new();
        tool.merge(&["--name", "a", "--name", "b", "--no-verify", "--quiet"]);
        tool.run(0, &extracting("plain.onnx"));
        let plain = fs::read(tool.path("plain.onnx")).unwrap();
        (tool, plain)
    }

    fn extracting(output: &str) -> [&str; 6] {
        ["extract", "joint.onnx", "--task", "a", "-o", output]
    }

    #[test]
    fn links_are_followed() {
        let (tool, plain) = joint();
        fs::create_dir(tool.path("far")).unwrap();
        fs::write(tool.path("far/old.onnx"), "old").unwrap();
        for (link, to) in [("one.onnx", "far/old.onnx"), ("two.onnx", "far/new.onnx")] {
            symlink(to, tool.path(link)).unwrap();
            tool.run(0, &extracting(link));
            assert!(fs::symlink_metadata(tool.path(link)).unwrap().is_symlink());
            assert_eq!(fs::read(tool.path(to)).unwrap(), plain);
        }
        symlink("far", tool.path("folder")).unwrap();
        assert!(tool.refused(&extracting("folder")).contains("is a folder"));
        symlink("joint.onnx", tool.path("itself.onnx")).unwrap();
        assert!(tool.refused(&extracting("itself.onnx")).contains("is the input"));
        symlink("nowhere/x", tool.path("lost.onnx")).unwrap();
        tool.refused(&extracting("lost.onnx"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn standard_output_is_written_to_and_stays_what_it_is() {
        let (tool, plain) = joint();
        symlink("/dev/stdout", tool.path("link.onnx")).unwrap();
        for output in ["/dev/stdout", "/proc/self/fd/1", "link.onnx"] {
            assert_eq!(tool.run(0, &extracting(output)).stdout, plain);
            let file = fs::File::create(tool.path("redirected")).unwrap();
            let status = tool.command(&extracting(output)).stdout(file).status().unwrap();
            assert!(status.success());
            assert_eq!(fs::read(tool.path("redirected")).unwrap(), plain);
        }
        assert!(fs::symlink_metadata("/dev/stdout").unwrap().is_symlink());
        assert!(fs::symlink_metadata(tool.path("link.onnx")).unwrap().is_symlink());
        // The report goes to standard error instead.
        let (a, b) = (mnist(), fashion());
        let merge = ["merge", &a, &b, "-o", "/dev/stdout", "--samples", "8", "--runtime", "tract"];
        let output = tool.run(0, &merge);
        fs::write(tool.path("again.onnx"), &output.stdout).unwrap();
        tool.run(0, &["inspect", "again.onnx"]);
        assert!(stderr(&output).contains("of all models together"));
    }

    #[test]
    fn a_device_stays_one() {
        let (tool, _) = joint();
        tool.run(0, &extracting("/dev/null"));
        let null = fs::metadata("/dev/null").unwrap();
        assert!(null.file_type().is_char_device());
        let _socket = std::os::unix::net::UnixListener::bind(tool.path("socket")).unwrap();
        assert!(tool.refused(&extracting("socket")).contains("it is a socket"));
    }

    #[test]
    fn a_pipe_gets_the_model() {
        let (tool, plain) = joint();
        let made = Command::new("mkfifo").arg(tool.path("pipe")).status().unwrap();
        assert!(made.success());
        let mut child = tool.command(&extracting("pipe")).spawn().unwrap();
        let mut read = Vec::new();
        fs::File::open(tool.path("pipe")).unwrap().read_to_end(&mut read).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(read == plain);
        assert!(fs::metadata(tool.path("pipe")).unwrap().file_type().is_fifo());
    }

    #[test]
    fn a_pipe_that_nobody_reads_can_be_left() {
        let (tool, _) = joint();
        assert!(Command::new("mkfifo").arg(tool.path("pipe")).status().unwrap().success());
        for reader in [false, true] {
            // The reader reads nothing, so the pipe is full at once.
            let keep = reader.then(|| {
                let mut options = fs::OpenOptions::new();
                options.read(true).write(true).open(tool.path("pipe")).unwrap()
            });
            let mut command = tool.command(&extracting("pipe"));
            let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
            std::thread::sleep(Duration::from_secs(1));
            assert!(child.try_wait().unwrap().is_none(), "it waits");
            let asked = Instant::now();
            let kill = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
            assert!(kill.unwrap().success());
            assert_eq!(child.wait().unwrap().code(), Some(130));
            assert!(asked.elapsed() < Duration::from_secs(1));
            drop(keep);
        }
        let names: Vec<String> = files(&tool.path(".")).into_iter().map(|f| f.0).collect();
        assert_eq!(names, ["joint.onnx", "pipe", "plain.onnx"]);
    }
}

#[test]
fn a_joint_model_with_its_weights_beside_it_is_verified_and_merged_again() {
    let tool = Tool::new();
    tool.merge(&["--no-compare"]);
    let path = tool.path("joint.onnx");
    let apart = onnx::SaveOptions { external: onnx::External::Always, threshold: 1024 };
    onnx::save(&onnx::load(&path).unwrap(), &path, &apart).unwrap();
    let is_data = |(name, _): &(String, u64)| name.ends_with(".data");
    assert!(files(path.parent().unwrap()).iter().any(is_data));
    let (a, b, third) = (mnist(), fashion(), fixture("models/lenet300_mnist_b.onnx"));
    tool.run(0, &["verify", "joint.onnx", &a, &b]);
    let more = ["--name", "a", "--name", "b", "--name", "c", "--samples", "100", "--share", "1"];
    tool.run(0, &[&["merge", "joint.onnx", &third, "-o", "three.onnx"][..], &more].concat());
}
