"""Writes fixtures/types/*.onnx: nodes of every standard operator with the types of their outputs.

    python scripts/operator_types.py

The nodes are those of the `onnx` package's own tests, each in three variants: small inputs as
constants, all inputs open, and extents as names. What `onnx.shape_inference` tells of an output is
the declared type of that value. What the operator really returned is in the metadata, by the name of
the value: element type and extents. `tests/types.rs` compares both with what is inferred here.
"""

import collections
import pathlib
import re
import warnings

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference
from onnx.compose import add_prefix

FOLDER = pathlib.Path(__file__).parent.parent / "fixtures" / "types"

# Of one operator, cases of one variant.
MOST_CASES = 7

# Constants of more elements are data, not parameters.
LARGEST = 16


def cases():
    """All test cases of one node of the standard operator set, with their data."""
    warnings.filterwarnings("ignore")
    from onnx.backend.test.case import node

    for case in node.collect_testcases():
        nodes = case.model.graph.node
        if len(nodes) != 1 or nodes[0].domain != "" or not case.data_sets:
            continue
        # Old forms of an operator are kept as tests of their own operator set.
        newest = {o.domain: o.version for o in case.model.opset_import}.get("", 0)
        current = schema_version(nodes[0]) <= newest or nodes[0].op_type in ("If", "Loop")
        if current or case.name.startswith("test_scan9"):
            yield case.name, case.model, case.data_sets[0]


def schema_version(node):
    """The operator set version that gave a node's operator its present meaning."""
    try:
        return onnx.defs.get_schema(node.op_type, onnx.defs.onnx_opset_version()).since_version
    except onnx.defs.SchemaError:
        return float("inf")


def is_small(array):
    """Whether an input may be a parameter of the operator: a shape, an axis, a number."""
    if not isinstance(array, np.ndarray) or array.dtype == object:
        return False
    integral = array.dtype.kind in "iub"
    return array.ndim <= 1 and array.size <= (LARGEST if integral else 4)


def constants(model, inputs):
    """The model with small inputs as initializers."""
    fixed = onnx.ModelProto.FromString(model.SerializeToString())
    graph = fixed.graph
    open_inputs = []
    for value, array in zip(model.graph.input, inputs):
        if is_small(array):
            graph.initializer.append(numpy_helper.from_array(array, value.name))
        else:
            open_inputs.append(value)
    del graph.input[:]
    graph.input.extend(open_inputs)
    return fixed


def named(model):
    """The model with a name for every extent above 1 of its inputs, equal where extents are."""
    symbolic = onnx.ModelProto.FromString(model.SerializeToString())
    for value in symbolic.graph.input:
        if not value.type.HasField("tensor_type"):
            continue
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value > 1:
                dim.dim_param = f"n{dim.dim_value}"
    return symbolic


def untyped(model):
    """The model without the types of its outputs, and so named that nothing repeats."""
    for output in model.graph.output:
        output.ClearField("type")
    return model


def inferred(model):
    """Types of the outputs by onnx; none where it refuses the model."""
    try:
        typed = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except shape_inference.InferenceError:
        return None
    for output in typed.graph.output:
        if not output.type.HasField("tensor_type"):
            continue
        for dim in output.type.tensor_type.shape.dim:
            # Names that the inference makes up tell nothing.
            if dim.dim_param.startswith("unk__"):
                dim.ClearField("dim_param")
    return [output.type for output in typed.graph.output]


def signature(model):
    """What tells cases apart: attributes, types and constants."""
    nodes = model.graph.node
    text = str([n.op_type for n in nodes]) if len(nodes) > 1 else ""
    text += str([n.attribute for n in nodes]) + str(len(nodes[0].output))
    text += "".join(str(v.type) for v in model.graph.input)
    text += "".join(str(t.data_type) + str(t.dims) for t in model.graph.initializer)
    return re.sub(r"elem_type: \d+|[\w.]*name: .*", "", text)


def actual(arrays):
    """Element types and extents of what the operator returned, where it is a tensor."""
    for array in arrays:
        if isinstance(array, np.ndarray) and array.dtype != object:
            code = helper.np_dtype_to_tensor_dtype(array.dtype)
            yield f"{code}:{','.join(map(str, array.shape))}"
        else:
            yield ""


class Collection:
    """One model that all cases become parts of."""

    def __init__(self):
        self.graph = onnx.GraphProto(name="nodes")
        self.truth = {}
        self.counts = collections.Counter()
        self.seen = set()

    def add(self, variant, model, returned=()):
        op = model.graph.node[-1].op_type
        key = (op, variant, signature(model))
        if key in self.seen or self.counts[op, variant] >= MOST_CASES:
            return
        types = inferred(untyped(model))
        if types is None:
            return
        self.seen.add(key)
        self.counts[op, variant] += 1
        part = add_prefix(model, f"{op}.{variant}{self.counts[op, variant]}/").graph
        for output, ty in zip(part.output, types):
            output.type.CopyFrom(ty)
        for output, text in zip(part.output, actual(returned)):
            if text:
                self.truth[output.name] = text
        for field in ("node", "input", "initializer", "output"):
            getattr(self.graph, field).extend(getattr(part, field))

    def save(self, path, version):
        opset = [helper.make_opsetid("", version)]
        model = helper.make_model(self.graph, opset_imports=opset, producer_name="operator_types")
        helper.set_model_props(model, self.truth)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(model.SerializeToString(deterministic=True))
        print(path, len(self.graph.node), "nodes,", path.stat().st_size, "bytes")


def lone(op, inputs, version, constant=(), outputs=1, **attributes):
    """A model of one node. Inputs are shapes of floats; `constant` follow them."""
    names = [f"x{i}" for i in range(len(inputs))]
    values = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip(names, inputs)
    ]
    fixed = [numpy_helper.from_array(np.array(c), f"c{i}") for i, c in enumerate(constant)]
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names + [c.name for c in fixed], results, **attributes)
    ports = [helper.make_empty_tensor_value_info(name) for name in results]
    graph = helper.make_graph([node], op, values, ports, fixed)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])


def chain(shapes, *nodes):
    """A model of several nodes in a row: operator, inputs, attributes; outputs are y0, y1 …"""
    inputs = [
        helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, s) for i, s in enumerate(shapes)
    ]
    made = [
        helper.make_node(op, names.split(), [f"y{i}"], **attributes)
        for i, (op, names, attributes) in enumerate(nodes)
    ]
    numbers = [numpy_helper.from_array(np.int64(n), f"n{n}") for n in (0, 1, 2)]
    port = helper.make_empty_tensor_value_info(f"y{len(nodes) - 1}")
    graph = helper.make_graph(made, nodes[-1][0], inputs, [port], numbers)
    version = onnx.defs.onnx_opset_version()
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])


def others():
    """Operators that the package's tests do not reach with one node."""
    version = onnx.defs.onnx_opset_version()
    x = ["n", 6, "h", 8]
    yield lone("GlobalLpPool", [x], version)
    yield lone("MaxRoiPool", [x, ["r", 5]], version, pooled_shape=[3, 2])
    yield lone("MeanVarianceNormalization", [x], version)
    yield lone("Multinomial", [["n", 5]], version, sample_size=7)
    yield lone("RandomNormal", [], version, shape=[2, 3])
    yield lone("RandomUniform", [], version, shape=[2, 3], dtype=TensorProto.DOUBLE)
    yield lone("RandomNormalLike", [x], version)
    yield lone("RandomUniformLike", [x], version, dtype=TensorProto.DOUBLE)
    pair = ("SequenceConstruct", "x0 x1", {})
    at = ("SequenceAt", "y0 n1", {})
    yield chain([x, x], pair, at)
    yield chain([x, ["n", 6, "h", 9]], pair, at)
    yield chain([x, x], pair, ("SequenceLength", "y0", {}))
    yield chain([x, x], pair, ("ConcatFromSequence", "y0", {"axis": 3}))
    yield chain([x, x], pair, ("ConcatFromSequence", "y0", {"axis": 0, "new_axis": 1}))
    yield chain([x, x], pair, ("SequenceErase", "y0 n0", {}), ("SequenceAt", "y1 n0", {}))
    empty = ("SequenceEmpty", "", {})
    yield chain([x], empty, ("SequenceInsert", "y0 x0", {}), ("SequenceAt", "y1 n0", {}))
    yield chain([x], ("SplitToSequence", "x0 n2", {"axis": 1}), at)
    yield chain([x], ("SplitToSequence", "x0", {"axis": 1, "keepdims": 0}), at)
    yield chain([x], ("Optional", "x0", {}), ("OptionalGetElement", "y0", {}))


def older():
    """Nodes in forms that newer operator sets do not have."""
    x = [2, 6, 4, 8]
    for op in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare"):
        yield lone(f"Reduce{op}", [x], 13, axes=[-1, 1], keepdims=0)
        yield lone(f"Reduce{op}", [x], 13, axes=[2])
        yield lone(f"Reduce{op}", [x], 13, keepdims=0)
    yield lone("Split", [x], 13, axis=1, outputs=3)
    yield lone("Split", [x], 13, [np.int64([1, 5])], axis=1, outputs=2)
    scales = [np.float32([]), np.float32([1, 1, 2, 0.5])]
    yield lone("Resize", [x], 13, scales)
    yield lone("Pad", [x], 13, [np.int64([0, 1, 2, 3, 0, 0, 0, 1])])
    yield lone("Pad", [["n", 6, "h", "w"]], 13, [np.int64([0, 0, 2, 3, 0, 0, 2, 1])])
    yield lone("DFT", [[2, 10, 1]], 17, axis=1)
    yield lone("DFT", [[2, 10, 1]], 17, axis=1, onesided=1)
    yield lone("GroupNormalization", [x, [3], [3]], 18, num_groups=3)
    yield lone("GridSample", [x, [2, 5, 7, 2]], 16)
    for op in ("Conv", "MaxPool"):
        weight = [[5, 6, 3, 3]] if op == "Conv" else []
        for attributes in (
            {"strides": [2, 2], "pads": [1, 1, 1, 1]},
            {"auto_pad": "SAME_UPPER", "strides": [2, 3]},
            {"auto_pad": "VALID"},
            {"dilations": [2, 2]},
        ):
            shape = {} if op == "Conv" else {"kernel_shape": [3, 3]}
            yield lone(op, [["n", 6, 14, 15], *weight], 13, **attributes, **shape)
    yield lone("MaxPool", [x], 13, kernel_shape=[2, 3], strides=[3, 3], ceil_mode=1)
    yield lone("ConvTranspose", [x, [6, 3, 3, 2]], 13, strides=[2, 2], group=2, output_padding=[1, 0])


def main():
    newest = Collection()
    for _, model, (inputs, outputs) in cases():
        fixed = constants(model, inputs)
        newest.add("constant", fixed, outputs)
        newest.add("open", onnx.ModelProto.FromString(model.SerializeToString()), outputs)
        newest.add("named", named(fixed))
    for model in others():
        newest.add("other", model)
    newest.save(FOLDER / "nodes.onnx", onnx.defs.onnx_opset_version())
    for version in (13, 16, 17, 18):
        collection = Collection()
        for model in older():
            if model.opset_import[0].version == version:
                collection.add("older", model)
        collection.save(FOLDER / f"nodes_{version}.onnx", version)


if __name__ == "__main__":
    main()
