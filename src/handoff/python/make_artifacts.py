"""Make the on-device training artifacts: training, eval and optimizer model, and checkpoint.

The loss is the sum over tasks, as handoff.json says: for each output, the squared error from what the
original model gives, or cross-entropy with labels. To train towards something else, change `JointLoss`.
"""

import contextlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import onnx
from ort_training import artifacts, onnxblock

FOLDER = Path(__file__).resolve().parent
ARTIFACTS = FOLDER / "artifacts"


def read_manifest() -> dict:
    return json.loads((FOLDER / "handoff.json").read_text())


def target_name(target: dict) -> str:
    """The input that a term of the loss compares with."""
    return f"target/{target['output']}"


class JointLoss(onnxblock.Block):
    """The weighted sum of one loss per target."""

    BLOCKS = {
        "mean_squared_error": onnxblock.loss.MSELoss,
        "cross_entropy": onnxblock.loss.CrossEntropyLoss,
    }

    def __init__(self, targets: list[dict]):
        super().__init__()
        self.targets = targets

    def build(self, *_outputs: str) -> str:
        total = None
        for target in self.targets:
            error = self.BLOCKS[target["loss"]]()(target["output"], target_name(target))
            weight = self.constant(target_name(target) + "/weight", target["weight"])
            term = onnxblock.blocks.Mul()(error, weight)
            total = term if total is None else onnxblock.blocks.Add()(total, term)
        return total

    def constant(self, name: str, value: float) -> str:
        tensor = onnx.numpy_helper.from_array(np.array(value, np.float32), name)
        self.base.graph.initializer.append(tensor)
        return name


@contextlib.contextmanager
def quiet():
    """Hides what the graph transformers of ONNX Runtime log to standard error, whatever its settings."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def make_artifacts() -> None:
    manifest = read_manifest()
    targets = [target for task in manifest["tasks"] for target in task["targets"]]
    model = onnx.load(FOLDER / manifest["model"])
    outputs = [output.name for output in model.graph.output]
    ARTIFACTS.mkdir(exist_ok=True)
    with quiet():
        artifacts.generate_artifacts(
            model,
            requires_grad=manifest["trainable"],
            loss=JointLoss(targets),
            optimizer=artifacts.OptimType.AdamW,
            artifact_directory=ARTIFACTS,
            additional_output_names=outputs,
        )
    print(f"made {', '.join(sorted(path.name for path in ARTIFACTS.iterdir()))}")


if __name__ == "__main__":
    make_artifacts()
