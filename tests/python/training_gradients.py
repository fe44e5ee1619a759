"""Compare gradients of ONNX Runtime training with finite differences, for every operator that is handed
to it, and for the nodes of which src/handoff/operators.rs says that they go wrong.

Each case is a convolution with the operator behind it; the gradient of the mean squared error with
respect to the weights is compared along random directions.
"""

import contextlib
import os
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "src/handoff/python"))
import onnxruntime  # noqa: E402
from make_artifacts import quiet  # noqa: E402
from ort_training import artifacts  # noqa: E402

RNG = np.random.default_rng(0)
POOL = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) / 2 + 0.1).astype(np.float32)


def node(op: str, *more, **attributes):
    """An operator on the layer's output and on constants; `None` stands for an input left out."""
    return [(op, more, attributes)]


def positive(op: str):
    """An operator that is defined for numbers above 0."""
    return [("Sigmoid", (), {}), ("Add", (np.float32(0.5),), {}), (op, (), {})]


def conv(*weight: int, **attributes):
    return node("Conv", floats(*weight), floats(weight[0]), **attributes)


UNARY = ["Abs", "Cos", "Erf", "Exp", "Flatten", "Gelu", "GlobalAveragePool", "Identity", "LeakyRelu",
         "Neg", "Relu", "Sigmoid", "Sin", "Tanh"]
ARITHMETIC = ["Add", "Div", "Max", "Min", "Mul", "Sub"]
RIGHT = [node(op) for op in UNARY]
RIGHT += [positive(op) for op in ("Log", "Reciprocal", "Sqrt")]
RIGHT += [node(op, floats(4, 1, 1) + 2) for op in ARITHMETIC]
RIGHT += [node(op, ints(2, 3), keepdims=keep) for op in ("ReduceL2", "ReduceLogSumExp", "ReduceMean",
                                                         "ReduceSum") for keep in (0, 1)]
RIGHT += [node(op, axis=axis) for op in ("LogSoftmax", "Softmax") for axis in (1, -1)]
RIGHT += [
    node("Clip", np.float32(-0.3), np.float32(0.6)),
    node("Concat", floats(2, 1, 6, 6), axis=1),
    conv(3, 4, 3, 3, pads=[0, 1, 2, 1], strides=[2, 1]),
    conv(4, 2, 3, 3, group=2, dilations=[2, 2]),
    conv(4, 1, 3, 3, group=4, pads=[1, 1, 1, 1]),
    node("GlobalAveragePool") + node("Expand", ints(1, 4, 3, 3)),
    node("Gather", ints(3, 0, 0, 2), axis=1),
    node("Flatten") + node("Gemm", floats(5, 144), floats(5), transB=1),
    node("Flatten") + node("Gemm", floats(144, 5), floats(1, 5), alpha=0.5, beta=2.0),
    node("MatMul", floats(6, 5)),
    node("MaxPool", **POOL),
    node("MaxPool", **POOL, ceil_mode=1),
    node("Pad", ints(0, 0, 1, 1, 0, 0, 1, 2)),
    node("Pow", np.float32(3)),
    node("Reshape", ints(0, -1)),
    node("Slice", ints(1), ints(3), ints(1)),
    node("Slice", ints(0), ints(6), ints(2), ints(2)),
    node("GlobalAveragePool") + node("Squeeze", ints(2, 3)),
    node("Tile", ints(1, 1, 2, 1)),
    node("Transpose", perm=[0, 2, 3, 1]),
    node("Unsqueeze", ints(2)),
    # With a second output that is joined to the first again.
    [("Split", (ints(1, 3),), {"axis": 1, "outputs": 2}), ("Concat", (), {"axis": 1, "both": True})],
    # A mask on the layer's own values.
    [("Where", (), {"condition": RNG.random((2, 4, 6, 6)) < 0.5})],
]

WRONG = [
    conv(3, 4, 3, 3, auto_pad="SAME_UPPER"),
    node("BatchNormalization", floats(4) + 1, floats(4), floats(4), abs(floats(4)) + 0.5),
    [("Split", (ints(1, 3),), {"axis": 1, "outputs": 2})],
]


def build(case) -> onnx.ModelProto:
    constants = {"weight": floats(4, 3, 3, 3), "bias": floats(4)}
    nodes = [helper.make_node("Conv", ["x", "weight", "bias"], ["v0"], pads=[1, 1, 1, 1])]
    for number, (op, more, attributes) in enumerate(case):
        attributes = dict(attributes)
        names = [f"v{number}"]
        if attributes.pop("both", False):
            names.append(f"v{number}.1")
        if "condition" in attributes:
            constants["condition"] = attributes.pop("condition")
            names = ["condition", f"v{number}"]
            more = (floats(4, 1, 1),)
        for index, value in enumerate(more):
            names.append(f"constant{number}.{index}")
            constants[names[-1]] = np.asarray(value)
        outputs = [f"v{number + 1}"]
        outputs += [f"v{number + 1}.{i}" for i in range(1, attributes.pop("outputs", 1))]
        nodes.append(helper.make_node(op, names, outputs, **attributes))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 6, 6])
    y = helper.make_tensor_value_info(f"v{len(case)}", TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "case", [x], [y], tensors)
    opset = helper.make_opsetid("", 20)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    shape = run(model, {"x": np.zeros((2, 3, 6, 6), np.float32)}).shape
    y = helper.make_tensor_value_info(f"v{len(case)}", TensorProto.FLOAT, shape)
    model.graph.output[0].CopyFrom(y)
    return model


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, feeds)[0]


def gradients(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Gradients of weight and bias as the training model accumulates them."""
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    wanted = ["weight", "bias"]
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        with quiet():
            artifacts.generate_artifacts(copy, requires_grad=wanted, loss=artifacts.LossType.MSELoss)
        session = onnxruntime.InferenceSession(os.path.join(folder, "training_model.onnx"))
    buffers = {name: np.zeros_like(values[name]) for name in wanted}
    known = feeds | values
    known |= {f"{name}_grad.accumulation.buffer": buffer for name, buffer in buffers.items()}
    known["lazy_reset_grad"] = np.array([True])
    # The buffers are written in place.
    session.run(None, {entry.name: known[entry.name] for entry in session.get_inputs()})
    return buffers


def deviation(case) -> float:
    """How far the gradient is from finite differences, relative to its size."""
    model = build(case)
    x = floats(2, 3, 6, 6)
    target = floats(*run(model, {"x": x}).shape)
    found = gradients(model, {"x": x, "target": target})
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}

    def loss(name: str, value: np.ndarray) -> float:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        for tensor in changed.graph.initializer:
            if tensor.name == name:
                tensor.CopyFrom(numpy_helper.from_array(value, name))
        return float(((run(changed, {"x": x}).astype(np.float64) - target) ** 2).mean())

    worst = 0.0
    for name, gradient in found.items():
        direction = RNG.standard_normal(gradient.shape).astype(np.float32)
        direction /= np.linalg.norm(direction)
        expected = float((gradient * direction).sum())
        size = max(np.linalg.norm(gradient) / np.sqrt(gradient.size), 1e-4)
        # Kinks and rounding spoil one step length or the other, a wrong gradient all of them.
        differences = [
            (loss(name, values[name] + h * direction) - loss(name, values[name] - h * direction))
            / (2 * h)
            for h in (3e-2, 1e-2, 3e-3, 1e-3)
        ]
        worst = max(worst, min(abs(d - expected) for d in differences) / max(size, abs(expected)))
    return worst


def main() -> int:
    listed = (ROOT / "src/handoff/operators.rs").read_text()
    listed = re.search(r"TRAINABLE_OPS[^=]*= &\[(.*?)\];", listed, re.DOTALL)[1]
    missing = set(re.findall(r'"(\w+)"', listed)) - {op for case in RIGHT for op, *_ in case}
    assert not missing, f"no case for {sorted(missing)}"
    for case in RIGHT:
        found = deviation(case)
        assert found < 0.1, f"the gradient of {[op for op, *_ in case]} is wrong by {found:.3f}"
    for case in WRONG:
        found = deviation(case)
        assert found > 0.5, f"the gradient of {[op for op, *_ in case]} is right: take it off the list"
    print(f"gradients: {len(RIGHT)} right, {len(WRONG)} wrong as known")
    return 0


if __name__ == "__main__":
    sys.exit(main())
