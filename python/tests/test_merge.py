"""Merges from every form of models and samples, and what comes of them."""

import copy
import json
import pickle
import subprocess
import sys
import threading
import time

import numpy as np
import onnx
import onnx_zip
import onnxruntime
import pytest


def bytes_of(joint):
    return joint.to_bytes()


def test_a_merge_shares_weights_and_reports_it(merged):
    report = merged.report
    assert merged.tasks == ["a", "b"]
    assert report["compression"]["parameters_of_all"] < 0.55
    assert report["verification"]["failures"] == []
    assert [task["name"] for task in report["tasks"]] == ["a", "b"]
    assert report["tasks"][0]["data"]["labels"] and not report["synthetic_data"]
    assert "a/logits" in {output.name for output in onnx.load(merged.path).graph.output}


def test_the_command_line_writes_the_same_bytes(merged, quick, digits, others, samples, tmp_path):
    images, labels = samples
    np.savez(tmp_path / "digits.npz", image=images, labels=labels)
    command = [sys.executable, "-m", "onnx_zip", "merge", digits, others, "--name", "a", "--name", "b"]
    command += ["-o", tmp_path / "joint.onnx", "--data", tmp_path / "digits.npz", "--share", "1"]
    command += ["--samples", str(quick["samples"]), "--no-compare", "--quiet"]
    subprocess.run(list(map(str, command)), check=True)
    assert (tmp_path / "joint.onnx").read_bytes() == bytes_of(merged)
    merged.save(tmp_path / "saved.onnx")
    assert (tmp_path / "saved.onnx").read_bytes() == bytes_of(merged)


class Loader:
    """Yields batches as a torch ``DataLoader`` does, once."""

    def __init__(self, images, labels, size=64):
        self.batches = [
            [images[at : at + size], labels[at : at + size]] for at in range(0, len(images), size)
        ]
        self.reads = 0

    def __iter__(self):
        self.reads += 1
        return iter(self.batches)


class DataSet:
    """Cuts batches as a data set of Hugging Face does."""

    def __init__(self, images, labels):
        self.columns = {"image": images, "label": labels, "file": np.array(["x.png"] * len(labels))}

    def with_format(self, name):
        assert name == "numpy"
        return self

    def iter(self, batch_size):
        for at in range(0, len(self.columns["label"]), batch_size):
            yield {name: column[at : at + batch_size] for name, column in self.columns.items()}


def test_every_form_of_samples_gives_the_same_bytes(merged, quick, digits, others, samples):
    images, labels = samples
    models = {"a": digits, "b": others}
    loader = Loader(images, labels)
    forms = {
        "dict": {"image": images, "labels": labels},
        "per task": {"a": (images, labels), "b": (images, labels)},
        "loader": loader,
        "generator": ({"image": x, "labels": y} for x, y in loader.batches),
        "double": (images.astype(np.float64), labels.astype(np.uint16)),
        "strided": (np.asfortranarray(images), np.repeat(labels, 2)[::2]),
        "data set": DataSet(images, labels),
        "samples": zip(images, map(int, labels)),
        "list of labels": (images, labels.tolist()),
        "words": (images, np.array(list("abcdefghij"))[labels]),
        "tuples": [(images, labels), (images, labels)],
    }
    for name, form in forms.items():
        # Data per task decides whose biases are.
        joint = onnx_zip.merge(models, data=form, biases="shared", **quick)
        assert bytes_of(joint) == bytes_of(merged), name
    assert loader.reads == 1


def test_models_are_paths_bytes_or_protos(merged, quick, digits, others, samples):
    given = {"a": digits.read_bytes(), "b": str(others)}
    assert bytes_of(onnx_zip.merge(given, data=samples, **quick)) == bytes_of(merged)
    protos = [onnx.load(digits), onnx.load(others)]
    joint = onnx_zip.merge(protos, data=samples, **quick)
    assert joint.tasks == ["model", "model_2"]
    size = "parameters_of_all"
    assert joint.report["compression"][size] == merged.report["compression"][size]


def test_nothing_shared_changes_nothing(quick, digits, others, samples):
    images, _ = samples
    joint = onnx_zip.merge({"a": digits, "b": others}, data=images, **{**quick, "share": 0})
    found = joint.run(images[:50])
    for task, path in {"a": digits, "b": others}.items():
        (expected,) = onnxruntime.InferenceSession(path).run(None, {"image": images[:50]})
        np.testing.assert_allclose(found[f"{task}/logits"], expected, atol=1e-4)


def test_runs_equal_those_of_onnxruntime(merged, samples):
    images, _ = samples
    session = onnxruntime.InferenceSession(merged.path)
    name = session.get_inputs()[0].name
    expected = session.run(None, {name: images[:20]})
    for options in ({}, {"runtime": "tract"}):
        found = merged.run({name: images[:20]}, **options)
        assert list(found) == [output.name for output in session.get_outputs()]
        for one, other in zip(found.values(), expected):
            np.testing.assert_allclose(one, other, atol=1e-4)


def test_tasks_come_out_again(merged, samples, tmp_path):
    images, _ = samples
    joint = merged.run(images[:20])
    merged.extract("b", tmp_path / "b.onnx")
    assert (tmp_path / "b.onnx").read_bytes() == merged.extract("b")
    merged.split(tmp_path / "tasks")
    for path in (tmp_path / "b.onnx", tmp_path / "tasks" / "b.onnx"):
        (found,) = onnxruntime.InferenceSession(path).run(None, {"image": images[:20]})
        np.testing.assert_allclose(found, joint["b/logits"], atol=1e-4)


def test_a_joint_model_can_be_opened_and_merged_again(merged, quick, digits, samples, tmp_path):
    merged.save(tmp_path / "joint.onnx")
    joint = onnx_zip.Joint(tmp_path / "joint.onnx")
    assert joint.tasks == ["a", "b"] and joint.report is None
    third = onnx_zip.merge([joint, digits], data=samples, **quick)
    assert third.tasks == ["a", "b", "lenet300_mnist_a"]


def test_a_temporary_file_goes_with_its_object(quick, digits, others):
    joint = onnx_zip.merge([digits, others], **{**quick, "share": 0, "no_verify": True})
    path = joint.path
    assert path.exists()
    del joint
    assert not path.exists()


def test_reports_are_html_json_and_text(merged, tmp_path):
    html = merged.report._repr_html_()
    assert html.startswith("<iframe") and "onnx-zip" in html
    for name in ("r.html", "r.json", "r.txt", "R.HTML", "r.htm", "r.md"):
        merged.report.save(tmp_path / name)
    assert json.loads((tmp_path / "r.json").read_text()) == merged.report.to_dict()
    for name in ("r.html", "R.HTML", "r.htm"):
        assert (tmp_path / name).read_text().startswith("<!DOCTYPE html>")
    assert (tmp_path / "r.md").read_text().startswith("---\n")
    with pytest.raises(ValueError, match="no table"):
        merged.report.save(tmp_path / "r.csv")
    assert (tmp_path / "r.txt").read_text() == str(merged.report)


def test_reports_are_mappings(merged):
    report = merged.report
    assert "joint" in report and "nothing" not in report and report.get("nothing") is None
    assert list(report) == list(report.keys()) and len(report) == len(report.to_dict())


def test_copies_of_a_joint_model_have_files_of_their_own(merged):
    for again in (lambda joint: pickle.loads(pickle.dumps(joint)), copy.deepcopy):
        made = again(merged)
        path = made.path
        assert path != merged.path and made.to_bytes() == merged.to_bytes()
        assert made.report.to_dict() == merged.report.to_dict()
        del made
        assert not path.exists()


def test_progress_goes_to_a_function_or_to_bars(quick, digits, others, samples, capfd):
    calls = []

    def progress(stage, done, steps):
        calls.append((stage, done, steps))

    onnx_zip.merge([digits, others], data=samples, progress=progress, **quick)
    assert len({stage for stage, *_ in calls}) >= 2
    assert all(done <= steps for _, done, steps in calls if steps)
    onnx_zip.merge([digits, others], data=samples, progress=True, **quick)
    assert "%|" in capfd.readouterr().err


def test_other_threads_go_on_and_an_exception_of_progress_stops(quick, digits, others, samples):
    ticks, done = [], threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()

    class Enough(Exception):
        pass

    def progress(stage, number, steps):
        if stage == "verify":
            raise Enough

    with pytest.raises(Enough):
        onnx_zip.merge([digits, others], data=samples, progress=progress, **quick)
    done.set()
    thread.join()
    assert len(ticks) > 20


def test_without_data_there_is_a_warning(quick, digits, others):
    with pytest.warns(UserWarning, match="random numbers"):
        onnx_zip.merge([digits, others], **{**quick, "no_verify": True})


def test_a_requirement_that_is_not_met_raises_and_gives_the_model(quick, digits, others, samples):
    options = {**quick, "no_compare": False, "share": 0, "require": "smaller"}
    with pytest.raises(onnx_zip.errors.RequirementError, match="^require=smaller is not met") as caught:
        onnx_zip.merge([digits, others], data=samples, **options)
    assert caught.value.joint.tasks == ["lenet300_mnist_a", "lenet300_mnist_b"]
