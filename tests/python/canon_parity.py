"""Checks that canonical form changes no model's outputs, in ONNX Runtime.

    python canon_parity.py CANONICALISE [--opset N] [--nodes] MODEL.onnx|FOLDER...

CANONICALISE is the built example `canonicalise`. Models are run on the inputs in `test_data_set_0`
beside them, else on seeded random ones; the outputs there stand in for those of an original that
ONNX Runtime is too new to run. With --nodes, the single-node models of the `onnx` package
are run as well. Prints one line per model that fails and a count of every outcome.
"""

import argparse
import collections
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

TOLERANCE = 1e-5
# Half precision is as much coarser.
COARSENESS = {np.dtype(np.float16): 100.0}
TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}
onnxruntime.set_default_logger_severity(4)


def session(model):
    options = onnxruntime.SessionOptions()
    # The original as it is written, not as ONNX Runtime would fold it.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    providers = ["CPUExecutionProvider"]
    if isinstance(model, onnx.ModelProto):
        model = model.SerializeToString()
    else:
        model = str(model)
    return onnxruntime.InferenceSession(model, options, providers=providers)


def stored(path, kind, names):
    """Arrays by name from `test_data_set_0`, or None where one is missing."""
    arrays = {}
    for i, name in enumerate(names):
        file = path.parent / "test_data_set_0" / f"{kind}_{i}.pb"
        if not file.exists():
            return None
        tensor = onnx.TensorProto()
        tensor.ParseFromString(file.read_bytes())
        arrays[name] = numpy_helper.to_array(tensor)
    return arrays


def reference(path, feeds):
    """Inputs, the original's outputs by name, and whether ONNX Runtime can run the original."""
    graph = onnx.load(path, load_external_data=False).graph
    constants = {c.name for c in graph.initializer}
    inputs = [i.name for i in graph.input if i.name not in constants]
    outputs = [o.name for o in graph.output]
    feeds = feeds or stored(path, "input", inputs)
    try:
        original = session(path)
        feeds = feeds or random_inputs(original.get_inputs(), 2)
        return feeds, dict(zip(outputs, original.run(None, feeds))), True
    except Exception:
        expected = stored(path, "output", outputs)
        if feeds is None or expected is None:
            raise
        return feeds, expected, False


def random_inputs(ports, batch):
    rng = np.random.default_rng(0)
    feeds = {}
    for port in ports:
        dims = [d if isinstance(d, int) and d > 0 else batch for d in port.shape]
        values = rng.standard_normal(dims) if "float" in port.type or "double" in port.type else rng.integers(0, 2, dims)
        feeds[port.name] = np.asarray(values).astype(TYPES[port.type])
    return feeds


def deviation(a, b):
    if isinstance(a, (list, tuple)):
        return max((deviation(x, y) for x, y in zip(a, b)), default=0.0)
    if a.shape != b.shape or a.dtype != b.dtype:
        return float("inf")
    if a.dtype == object or a.size == 0:
        return 0.0 if np.array_equal(a, b) else float("inf")
    if not np.issubdtype(a.dtype, np.floating):
        return 0.0 if np.array_equal(a, b) else float("inf")
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return float("inf")
    coarse = COARSENESS.get(a.dtype, 1.0)
    a, b = (x[np.isfinite(x)].astype(np.float64) for x in (a, b))
    return float(np.max(np.abs(a - b) / np.maximum(1.0, np.abs(a)), initial=0.0)) / coarse


def check(tool, path, opset, feeds=None):
    """One outcome: 'same', 'refused' (by the tool), 'unrunnable' (the original), or a failure."""
    try:
        feeds, before, runs = reference(path, feeds)
    except Exception as error:
        return "unrunnable", str(error).splitlines()[0]
    with tempfile.TemporaryDirectory() as folder:
        target = pathlib.Path(folder) / "canonical.onnx"
        command = [tool, path, target] + ([str(opset)] if opset else [])
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            kind = "panicked" if "panicked" in done.stderr else "refused"
            return kind, done.stderr.strip().splitlines()[0]
        try:
            onnx.checker.check_model(str(target))
        except Exception as error:
            return "invalid", str(error).splitlines()[0]
        try:
            canonical = session(target)
            outputs = [o.name for o in canonical.get_outputs()]
            after = canonical.run(None, feeds)
        except Exception as error:
            return "broken" if runs else "unrunnable", str(error).splitlines()[0]
    if outputs != list(before):
        return "renamed", str(outputs)
    worst = deviation(list(before.values()), after)
    return ("same", "") if worst <= TOLERANCE else ("different", f"{worst:.2e}")


def single_nodes(folder):
    """The `onnx` package's models of one node, with their inputs."""
    from onnx.backend.test.case.node import collect_testcases

    for case in collect_testcases(None):
        path = pathlib.Path(folder) / f"{case.name}.onnx"
        path.write_bytes(case.model.SerializeToString())
        names = [i.name for i in case.model.graph.input]
        yield path, dict(zip(names, case.data_sets[0][0]))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tool")
    parser.add_argument("--opset", type=int)
    parser.add_argument("--nodes", action="store_true")
    parser.add_argument("models", nargs="*", type=pathlib.Path)
    arguments = parser.parse_intermixed_args()
    counts = collections.Counter()

    def record(path, feeds=None):
        outcome, detail = check(arguments.tool, path, arguments.opset, feeds)
        counts[outcome] += 1
        if outcome != "same":
            print(f"{outcome:10} {path.parent.name}/{path.name}: {detail}", flush=True)

    for place in arguments.models:
        for path in sorted(place.rglob("*.onnx")) if place.is_dir() else [place]:
            record(path)
    if arguments.nodes:
        with tempfile.TemporaryDirectory() as folder:
            for path, feeds in single_nodes(folder):
                record(path, feeds)
    print(dict(counts))
    return 1 if set(counts) - {"same", "refused", "unrunnable"} else 0


if __name__ == "__main__":
    sys.exit(main())
