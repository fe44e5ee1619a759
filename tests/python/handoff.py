"""Compare a joint model before and after training: everything is as it was, but for the weights.

FOLDER holds joint.onnx, retrained.onnx, what train.py printed in train.txt, and the export in training/.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper


def weights(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.initializer[:]
    # What the check of a merge has measured says nothing about other weights.
    kept = [entry for entry in bare.metadata_props if entry.key != "onnx_zip.deviation"]
    del bare.metadata_props[:]
    bare.metadata_props.extend(kept)
    return bare


def main() -> int:
    folder = Path(sys.argv[1])
    printed = (folder / "train.txt").read_text()
    losses = {
        when: float(re.search(rf"^{when}: loss ([0-9.]+)", printed, re.MULTILINE)[1])
        for when in ("before", "after")
    }
    assert losses["after"] < 0.9 * losses["before"], losses

    before = onnx.load(folder / "joint.onnx")
    after = onnx.load(folder / "retrained.onnx")
    assert without_weights(before) == without_weights(after), "more than weights has changed"
    old, new = weights(before.graph), weights(after.graph)
    assert {name: w.shape for name, w in old.items()} == {name: w.shape for name, w in new.items()}

    trainable = set(json.loads((folder / "training/handoff.json").read_text())["trainable"])
    assert any(name.startswith("shared/") for name in trainable), trainable
    changed = {name for name in old if not np.array_equal(old[name], new[name])}
    assert changed == trainable, changed ^ trainable
    trained = weights(onnx.load(folder / "training/trained.onnx").graph)
    assert all(np.array_equal(new[name], trained[name]) for name in trainable)

    size = {name: (folder / name).stat().st_size for name in ("joint.onnx", "retrained.onnx")}
    assert 0 <= size["joint.onnx"] - size["retrained.onnx"] < 1000, size
    print(f"loss {losses['before']} -> {losses['after']}, {len(changed)} weights trained, {size}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
