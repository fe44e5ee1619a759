"""The functions beside merge, and the command."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_zip
import onnxruntime
import pytest
from conftest import run


def test_ctrl_c_stops_a_merge_and_leaves_nothing(digits, others, tmp_path):
    code = """
import numpy as np, onnx_zip, os, signal, sys, threading, time
# A shell's background processes ignore the signal.
signal.signal(signal.SIGINT, signal.default_int_handler)
images = np.random.default_rng(0).random((20000, 1, 28, 28), np.float32)
begun = threading.Event()
def progress(stage, done, steps):
    begun.set()
def stop():
    begun.wait()
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=stop).start()
try:
    onnx_zip.merge(sys.argv[1:3], data=images, samples=20000, progress=progress)
except KeyboardInterrupt:
    print("stopped")
"""
    command = [sys.executable, "-c", code, str(digits), str(others)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.stdout == "stopped\n", done.stderr
    assert list(tmp_path.glob("onnx-zip*")) == []


def test_the_installed_onnxruntime_computes(merged):
    assert merged.report["runtime"].startswith(f"ONNX Runtime {onnxruntime.__version__}")


def test_it_works_without_onnxruntime(digits, others, tmp_path):
    code = """
import sys
sys.modules["onnxruntime"] = None
import onnx_zip
joint = onnx_zip.merge(sys.argv[1:3], share=0)
print(joint.report["runtime"])
"""
    kept = {key: os.environ[key] for key in ("LANG", "HOME", "PYTHONPATH") if key in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", code, str(digits), str(others)],
        capture_output=True, text=True, cwd=tmp_path, env={**kept, "PATH": ""},
    )
    assert done.stdout.startswith("tract"), done.stderr
    assert "tract computes" in done.stderr


def test_plans_and_models_are_reported(digits, others):
    plan = onnx_zip.plan({"a": digits, "b": others}, share=0.5)
    assert plan["tasks"] == ["a", "b"] and plan["layers"] == [3, 3]
    assert "a" in str(plan)
    found = onnx_zip.inspect(digits.read_bytes())
    assert [layer["neurons"] for layer in found["layers"]] == [300, 100, 10]


def test_a_joint_model_is_verified_against_its_originals(merged, digits, others, samples):
    checked = onnx_zip.verify(merged, {"b": others, "a": digits}, data=samples, max_drop=5)
    assert checked.passed and checked
    assert [task["name"] for task in checked["tasks"]] == ["a", "b"]
    assert checked["tasks"][0]["error_before"] < 0.1
    swapped = onnx_zip.verify(merged, {"a": others, "b": digits}, data=samples, max_deviation=1e-3)
    assert not swapped
    with pytest.raises(onnx_zip.errors.UsageError, match="the tasks are a, b"):
        onnx_zip.verify(merged, {"x": digits, "y": others})


def test_retraining_brings_a_joint_model_closer(digits, others, samples):
    images, _ = samples
    teachers = {"a": digits, "b": others}
    options = {"method": "mtz", "samples": 400, "no_compare": True, "no_verify": True}
    merged = onnx_zip.merge(teachers, data=images, **options)
    joint = onnx_zip.retrain(merged, teachers, data=images, iterations=100)
    assert joint.tasks == ["a", "b"] and joint.report["outcome"]

    def deviation(one):
        found = one.run(images[:200])
        runs = {t: onnxruntime.InferenceSession(p).run(None, {"image": images[:200]})[0]
                for t, p in teachers.items()}
        return sum(np.square(found[f"{t}/logits"] - run).mean() for t, run in runs.items())

    assert deviation(joint) < deviation(merged)


def test_pruning_leaves_out_weights(digits, samples, tmp_path):
    images, _ = samples
    model = onnx.load_from_string(onnx_zip.prune(digits, data=images, sparsity=0.9))
    weights = [onnx.numpy_helper.to_array(w) for w in model.graph.initializer]
    zeros = np.mean(np.concatenate([(w == 0).ravel() for w in weights if w.ndim > 1]))
    assert 0.89 < zeros < 0.91
    report = onnx_zip.prune(digits, images, sparsity="90%", output=tmp_path / "sparse.onnx")
    assert report["output"] == str(tmp_path / "sparse.onnx")
    assert (tmp_path / "sparse.onnx").exists()


def test_statistics_of_parts_add_up_and_stand_for_data(quick, digits, others, samples, tmp_path):
    images, _ = samples
    for name, part in {"1": images[:300], "2": images[300:], "all": images}.items():
        onnx_zip.calibrate(digits, part, output=tmp_path / f"a{name}.gram")
    onnx_zip.calibrate(merge=[tmp_path / "a1.gram", tmp_path / "a2.gram"], output=tmp_path / "a.gram")
    onnx_zip.calibrate(others, iter([images]), output=tmp_path / "b.gram")
    gram = [tmp_path / "a.gram", tmp_path / "b.gram"]
    joint = onnx_zip.merge([digits, others], gram=gram, share=1, no_compare=True, no_verify=True)
    assert joint.report["compression"]["parameters_of_all"] < 0.6


def test_the_command_is_installed_and_ends_with_its_exit_code(digits, tmp_path):
    command = Path(sys.executable).with_name("onnx-zip")
    assert command.exists() or shutil.which("onnx-zip")
    version = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout == f"onnx-zip {onnx_zip.__version__}\n"
    assert run("inspect", tmp_path / "missing.onnx").returncode == 2
    shown = run("inspect", digits, "--json")
    assert json.loads(shown.stdout) == onnx_zip.inspect(digits).to_dict()


def test_a_frontier_has_points_a_knee_and_plans(digits, others, samples, tmp_path):
    curve = onnx_zip.frontier(
        {"a": digits, "b": others},
        data=samples,
        points=3,
        samples=200,
        keep=tmp_path / "kept",
        runtime="tract",
    )
    sizes = [point["size"] for point in curve.points]
    assert 2 <= len(sizes) <= 3 and sizes == sorted(sizes)
    assert curve.knee in curve.points
    assert [task["name"] for task in curve["tasks"]] == ["a", "b"]
    assert all(task["original"]["error"] is not None for task in curve["tasks"])
    kept = sorted(path.suffix for path in (tmp_path / "kept").iterdir())
    assert kept == [".onnx"] * len(sizes) + [".toml"] * len(sizes)
    joint = onnx_zip.Joint(next((tmp_path / "kept").glob("*.onnx")))
    assert joint.tasks == ["a", "b"]
    for name, start in [("c.html", "<!DOCTYPE html>"), ("c.csv", "point,size"), ("c.json", "{")]:
        curve.save(tmp_path / name)
        assert (tmp_path / name).read_text().lower().startswith(start.lower())
    assert "<svg" in curve._repr_html_()
    with pytest.raises(onnx_zip.errors.UsageError, match="share"):
        onnx_zip.frontier([digits, others], share=0.5)


def test_samples_come_from_files_of_any_format(digits, others, quick):
    from conftest import FIXTURES

    formats = FIXTURES / "data" / "formats"
    few = {**quick, "samples": 24, "scale": "1/255", "no_verify": True}
    expected = onnx_zip.merge([digits, others], data=formats / "digits.npz", **few).to_bytes()
    for name, more in [
        ("digits.csv", {}),
        ("shards", {}),
        ("hub", {"part": "train", "column": {"labels": "word"}}),
        ("digits.safetensors", {}),
    ]:
        joint = onnx_zip.merge([digits, others], data=formats / name, **few, **more)
        assert joint.to_bytes() == expected, name


def test_fix_takes_the_branches_of_a_value(tmp_path):
    def branch(name, op):
        result = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        return onnx.helper.make_graph([onnx.helper.make_node(op, ["x"], [name])], name, [], [result])

    branches = {"then_branch": branch("high", "Relu"), "else_branch": branch("low", "Neg")}
    nodes = [
        onnx.helper.make_node("Equal", ["rate", "wanted"], ["is_high"]),
        onnx.helper.make_node("If", ["is_high"], ["y"], **branches),
    ]
    info = onnx.helper.make_tensor_value_info
    inputs = [info("x", onnx.TensorProto.FLOAT, ["n", 3]), info("rate", onnx.TensorProto.INT64, [])]
    outputs = [info("y", onnx.TensorProto.FLOAT, ["n", 3])]
    wanted = onnx.numpy_helper.from_array(np.array(16000), "wanted")
    graph = onnx.helper.make_graph(nodes, "net", inputs, outputs, [wanted])
    opset = onnx.helper.make_opsetid("", 17)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    for rate, op in [(16000, "Relu"), (8000, "Neg")]:
        fixed = onnx.load_from_string(onnx_zip.fix(model, {"rate": rate}))
        assert [node.op_type for node in fixed.graph.node] == [op]
        assert [value.name for value in fixed.graph.input] == ["x"]
    assert onnx_zip.fix(model, {"rate": 1}, output=tmp_path / "fixed.onnx") is None
    assert (tmp_path / "fixed.onnx").is_file()
    with pytest.raises(onnx_zip.errors.UsageError, match="there is no input 'sr'"):
        onnx_zip.fix(model, {"sr": 1})


def test_a_plan_repeats_a_merge(quick, digits, others, samples, tmp_path):
    images, _ = samples
    np.save(tmp_path / "images.npy", images)
    models, options = {"a": digits, "b": others}, {**quick, "no_verify": True}
    plan = tmp_path / "p.toml"
    joint = onnx_zip.merge(models, data=tmp_path / "images.npy", save_plan=plan, **options)
    again = onnx_zip.merge(plan=plan)
    assert again.to_bytes() == joint.to_bytes() and again.tasks == ["a", "b"]
    apart = onnx_zip.merge(plan=plan, share=0)
    assert apart.report["compression"]["parameters_of_all"] > 0.99
    np.save(tmp_path / "images.npy", images[:500])
    with pytest.raises(onnx_zip.errors.UsageError, match="differs from the file of the plan"):
        onnx_zip.merge(plan=plan)
    with pytest.warns(UserWarning, match="differs from the file of the plan"):
        onnx_zip.merge(plan=plan, allow_changed=True)
    with pytest.raises(TypeError, match="models, or a plan"):
        onnx_zip.merge()


def test_a_dry_run_is_a_plan(digits, others, tmp_path):
    models = {"a": digits, "b": others}
    plan = onnx_zip.merge(models, share=0.5, dry_run=True)
    assert plan.to_dict() == onnx_zip.plan(models, share=0.5).to_dict()
    joint = onnx_zip.merge(
        models, save_plan=tmp_path / "p.toml", share=0, no_verify=True, no_compare=True
    )
    assert onnx_zip.merge(plan=tmp_path / "p.toml", dry_run=True)["prediction"]["sizes"]["shared"] == 0
    assert joint.tasks == plan["tasks"]


def test_a_stripped_copy_computes_the_same_and_holds_no_recipe(merged, samples, tmp_path):
    images, _ = samples
    small = onnx_zip.strip(merged)
    assert not onnx.load_from_string(small).metadata_props
    assert onnx_zip.strip(merged.to_bytes(), output=tmp_path / "device.onnx") is None
    assert (tmp_path / "device.onnx").read_bytes() == small
    found = onnxruntime.InferenceSession(small).run(["a/logits"], {"image": images[:9]})
    np.testing.assert_array_equal(found[0], merged.run(images[:9])["a/logits"])
    with pytest.raises(onnx_zip.errors.FormatError, match="no joint model"):
        onnx_zip.strip(small)
    with pytest.raises(onnx_zip.errors.FormatError, match="not a stripped copy"):
        onnx_zip.Joint(tmp_path / "device.onnx")


def test_weights_that_are_trained_elsewhere_come_back(merged, digits, others, samples, tmp_path):
    images, _ = samples
    folder = tmp_path / "training"
    given = {"teachers": {"b": others, "a": digits}, "data": images, "samples": 40}
    assert onnx_zip.retrain(merged, **given, export=folder) is None
    with pytest.raises(onnx_zip.errors.UsageError, match="is not empty"):
        onnx_zip.retrain(merged, **given, export=folder)
    with pytest.raises(onnx_zip.errors.FileError, match="run train.py"):
        onnx_zip.import_weights(folder)
    trained = onnx.load(folder / "forward.onnx")
    for weight in trained.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT:
            array = onnx.numpy_helper.to_array(weight)
            weight.CopyFrom(onnx.numpy_helper.from_array(array * np.float32(2), weight.name))
    onnx.save(trained, folder / "trained.onnx")
    joint = onnx_zip.import_weights(folder)
    assert joint.tasks == ["a", "b"] and joint.path.exists()
    before, after = merged.run(images[:5]), joint.run(images[:5])
    assert before.keys() == after.keys()
    # Three layers, all of whose weights and biases have doubled.
    assert not np.allclose(before["a/logits"], after["a/logits"])
    with pytest.raises(onnx_zip.errors.UsageError, match="leave out mix"):
        onnx_zip.retrain(merged, **given, mix=True, export=tmp_path / "other")
    with pytest.raises(onnx_zip.errors.FileError, match="retraining with export wrote"):
        onnx_zip.import_weights(tmp_path / "nowhere")


def test_workers_take_the_shards_of_a_merge(quick, digits, others, samples, tmp_path):
    images, _ = samples
    np.save(tmp_path / "images.npy", images)
    code = "import onnx_zip, sys; onnx_zip.worker(sys.argv[1], threads=1)"
    command = [sys.executable, "-c", code, str(tmp_path / "shared")]
    (tmp_path / "shared").mkdir()
    workers = [subprocess.Popen(command) for _ in range(2)]
    models = {"a": digits, "b": others}
    given = {"data": tmp_path / "images.npy", **quick, "no_verify": True, "shards": 2}
    joint = onnx_zip.merge(models, **given, workers=tmp_path / "shared")
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0]
    assert joint.to_bytes() == onnx_zip.merge(models, **given).to_bytes()
