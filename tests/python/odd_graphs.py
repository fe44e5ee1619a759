"""Merge nets of unusual form in every form of a joint model, without sharing, and compare outputs.

Each net of `fixtures/hostile` that is named here is merged with one of other weights. The result goes through the
ONNX project's checker and Python's ONNX Runtime. Outputs of the task that is asked for are those of the original,
and those of the other task are zeros of the same type and shape.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from parity import open_session, random_tensor

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "target/release/onnx-zip"
NETS = [
    "argmax_out", "f64_out", "feat_out", "film", "gemm_left", "glu_first", "gn_net", "if_in_loop", "init_out",
    "inter_out", "qdq_block", "qdqnet", "scalar_first", "segdyn", "siamese", "silent", "static_out", "sub_if3",
    "sub_loop", "sub_scan", "sub_trunk", "tied", "typed2", "unshuffle",
]
DIMS = {"height": 12, "width": 8}
TOLERANCE = 1e-4


def other(path: Path, target: Path) -> None:
    """Write the net at `path` with other weights."""
    model, rng = onnx.load(path), np.random.default_rng(1)
    for tensor in model.graph.initializer:
        if tensor.data_type in (1, 10, 11) and np.prod(tensor.dims) > 1:
            array = numpy_helper.to_array(tensor)
            changed = (array * rng.uniform(0.5, 1.5, array.shape)).astype(array.dtype)
            tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
    onnx.save(model, target)


def differs(found: np.ndarray, wanted: np.ndarray) -> bool:
    if (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
        return True
    if found.dtype.kind == "b" or wanted.size == 0:
        return bool((found != wanted).any())
    gap = np.abs(found.astype(np.float64) - wanted.astype(np.float64)).max()
    return gap > TOLERANCE * max(np.abs(wanted.astype(np.float64)).max(), 1e-6)


def faults(joint_path: Path, paths: list[Path], form: str) -> list[str]:
    """What is wrong with the joint model at `joint_path`."""
    onnx.checker.check_model(str(joint_path), full_check=True)
    joint, nets = open_session(str(joint_path)), [open_session(str(path)) for path in paths]
    inputs = [node for node in joint.get_inputs() if node.name != "task"]
    rng = np.random.default_rng(0)
    feed = {node.name: random_tensor(node, DIMS, 2, rng) for node in inputs}
    own = len(nets[0].get_inputs())
    values, found = list(feed.values()), []
    for task, net in enumerate(nets):
        mine = values if len(values) == own else values[task * own : (task + 1) * own]
        wanted = net.run(None, dict(zip((node.name for node in net.get_inputs()), mine)))
        selected = {} if form == "heads" else {"task": np.array([task], np.int64)}
        results = joint.run(None, feed | selected)
        for number, result in enumerate(results):
            what = f"task {task}, output {number}"
            one = wanted[number % len(wanted)]
            if number // len(wanted) == task:
                if differs(result, one):
                    found.append(f"{what}: {result.dtype}{result.shape} is not the original's {one.dtype}{one.shape}")
            elif form != "heads" and (differs(result, np.zeros_like(one))):
                found.append(f"{what} is not zero")
    return found


def main() -> int:
    failures = 0
    onnxruntime.set_default_logger_severity(4)
    with tempfile.TemporaryDirectory() as folder:
        for net in NETS:
            a, b = ROOT / f"fixtures/hostile/{net}.onnx", Path(folder) / f"{net}_other.onnx"
            other(a, b)
            for form in ["heads", "masked", "switch"]:
                target = Path(folder) / "joint.onnx"
                command = [TOOL, "merge", a, b, "-o", target, "--form", form, "--share", "0", "--samples", "12"]
                dims = [f"--dim={name}={size}" for name, size in DIMS.items() if net == "segdyn"]
                names = ["--name", "a", "--name", "b", "--quiet", "--no-compare"]
                run = subprocess.run([*command, *dims, *names], capture_output=True, text=True, env=os.environ)
                # Whatever a checker or a runtime raises is this net's verdict.
                try:
                    wrong = [run.stderr.strip()] if run.returncode else faults(target, [a, b], form)
                except Exception as error:
                    wrong = [str(error)]
                failures += bool(wrong)
                for fault in wrong:
                    print(f"FAIL  {net}, {form}: {fault}", file=sys.stderr)
    print(f"{len(NETS)} nets of unusual form, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
