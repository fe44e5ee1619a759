"""What people do with an ONNX model next: converters, optimisers and quantisers behind one interface.

Each turns a file into the files that are shipped, and runs them. Samples are those of each run that is
to be calibrated: one for all tasks, or one per task that a run can select. A tool that is not installed is named
as such, with the package that has it.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

Feeds = dict[str, np.ndarray]
Run = Callable[[Feeds], list[np.ndarray]]
WEB = Path(os.environ.get("ONNX_ZIP_WEB", "out/deploy/web"))


@dataclass
class Converted:
    """What is shipped, and how it computes the model's outputs, in their order."""

    size: int
    run: Run


@dataclass
class Converter:
    """One way to convert: its function, the packages that it needs, and whether it keeps float32."""

    title: str
    packages: dict[str, str]
    convert: Callable[[Path, Path, list[Feeds]], Converted]
    tolerance: float = 1e-4

    def missing(self) -> list[str]:
        """Packages, as pip or npm call them, that are not installed."""
        return [name for module, name in self.packages.items() if not installed(module)]


def installed(module: str) -> bool:
    if module.endswith(".js"):
        return shutil.which("node") is not None and (WEB / "node_modules" / module[:-3]).exists()
    return importlib.util.find_spec(module) is not None


def session(model: Path, level=ort.GraphOptimizationLevel.ORT_ENABLE_ALL) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.graph_optimization_level = 1, level
    options.log_severity_level = 3
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def in_runtime(model: Path) -> Converted:
    """A file that ONNX Runtime runs."""
    loaded = session(model)
    return Converted(model.stat().st_size, lambda feeds: loaded.run(None, feeds))


def ort_format(model: Path, folder: Path, _: list[Feeds]) -> Converted:
    copy = folder / "model.onnx"
    shutil.copy(model, copy)
    command = [sys.executable, "-m", "onnxruntime.tools.convert_onnx_models_to_ort"]
    shell(*command, copy, "--optimization_style", "Fixed")
    return in_runtime(folder / "model.ort")


def optimised(model: Path, folder: Path, _: list[Feeds]) -> Converted:
    saved = folder / "optimised.onnx"
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(saved)
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return in_runtime(saved)


def float16(model: Path, folder: Path, _: list[Feeds]) -> Converted:
    from onnxconverter_common import float16

    saved = folder / "float16.onnx"
    onnx.save(float16.convert_float_to_float16(onnx.load(model), keep_io_types=True), saved)
    return in_runtime(saved)


def float16_by_runtime(model: Path, folder: Path, _: list[Feeds]) -> Converted:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    saved = folder / "float16.onnx"
    onnx.save(convert_float_to_float16(onnx.load(model), keep_io_types=True), saved)
    return in_runtime(saved)


def prepared(model: Path, folder: Path) -> Path:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    saved = folder / "prepared.onnx"
    # Symbolic shapes would need SymPy, and say nothing that matters here.
    quant_pre_process(str(model), str(saved), skip_symbolic_shape=True)
    return saved


def static_int8(model: Path, folder: Path, samples: list[Feeds]) -> Converted:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self):
            starts = lambda feeds: range(0, count(feeds), 50)
            self.left = [batch(feeds, start, 50) for feeds in samples for start in starts(feeds)]

        def get_next(self) -> Feeds | None:
            return self.left.pop() if self.left else None

    saved = folder / "static.onnx"
    options = {"quant_format": QuantFormat.QDQ, "per_channel": True}
    quantize_static(str(prepared(model, folder)), str(saved), Reader(), **options)
    return in_runtime(saved)


def dynamic_int8(model: Path, folder: Path, _: list[Feeds]) -> Converted:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    saved = folder / "dynamic.onnx"
    options = {"weight_type": QuantType.QUInt8, "per_channel": True}
    ready = prepared(model, folder)
    onnx.save(with_products(onnx.load(ready)), ready)
    quantize_dynamic(str(ready), str(saved), **options)
    return in_runtime(saved)


def with_products(model: onnx.ModelProto) -> onnx.ModelProto:
    """`MatMul` and `Add` in place of `Gemm` with a weight that several nodes read.

    ONNX Runtime's dynamic quantiser transposes the weight of every `Gemm` in place, so a weight that
    two of them read would be transposed twice.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    reads = Counter(name for node in graph.node for name in node.input)
    turned: set[str] = set()
    nodes = []
    for node in graph.node:
        weight = node.input[1] if len(node.input) > 1 else ""
        # The tool writes dense layers with transB = 1 and no other attribute.
        if node.op_type != "Gemm" or weight not in weights or reads[weight] < 2:
            nodes.append(node)
            continue
        if weight not in turned:
            array = numpy_helper.to_array(weights[weight])
            weights[weight].CopyFrom(numpy_helper.from_array(array.T.copy(), weight))
            turned.add(weight)
        product = f"{node.output[0]}.product"
        nodes.append(helper.make_node("MatMul", [node.input[0], weight], [product]))
        nodes.append(helper.make_node("Add", [product, node.input[2]], [node.output[0]]))
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def simplified(model: Path, folder: Path, _: list[Feeds]) -> Converted:
    import onnxsim

    saved = folder / "simplified.onnx"
    onnx.save(onnxsim.simplify(onnx.load(model))[0], saved)
    return in_runtime(saved)


def slimmed(model: Path, folder: Path, _: list[Feeds]) -> Converted:
    import onnxslim

    saved = folder / "slim.onnx"
    onnx.save(onnxslim.slim(onnx.load(model)), saved)
    return in_runtime(saved)


def openvino(model: Path, folder: Path, _: list[Feeds]) -> Converted:
    import openvino as ov

    saved = folder / "model.xml"
    ov.save_model(ov.convert_model(model), saved, compress_to_fp16=False)
    compiled = ov.Core().compile_model(saved, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    run = lambda feeds: [compiled(feeds)[output] for output in compiled.outputs]
    return Converted(saved.with_suffix(".bin").stat().st_size, run)


def mnn(model: Path, folder: Path, samples: list[Feeds]) -> Converted:
    import MNN

    saved = folder / "model.mnn"
    command = [beside_python("mnnconvert"), "-f", "ONNX", "--bizCode", "onnx-zip"]
    shell(*command, "--modelFile", model, "--MNNModel", saved)
    outputs = [output.name for output in session(model).get_outputs()]
    net = MNN.nn.load_module_from_file(str(saved), list(samples[0]), outputs)

    def run(feeds: Feeds) -> list[np.ndarray]:
        given = [MNN.expr.const(a, list(a.shape), MNN.expr.NCHW, mnn_type(a)) for a in feeds.values()]
        return [np.array(value.read()) for value in net.forward(given)]

    mnn_type = lambda array: MNN.expr.float if array.dtype == np.float32 else MNN.expr.int
    narrow = lambda feeds: {k: a if a.dtype == np.float32 else a.astype(np.int32) for k, a in feeds.items()}
    return Converted(saved.stat().st_size, lambda feeds: run(narrow(feeds)))


def ncnn(model: Path, folder: Path, samples: list[Feeds]) -> Converted:
    import ncnn

    copy = folder / "model.onnx"
    shutil.copy(model, copy)
    one = [array[:1] for array in samples[0].values()]
    shapes = ",".join(f"{list(a.shape)}{'f32' if a.dtype == np.float32 else 'i64'}" for a in one)
    shell(beside_python("pnnx"), copy, "inputshape=" + shapes.replace(" ", ""), "fp16=0", cwd=folder)
    net = ncnn.Net()
    net.opt.num_threads, net.opt.use_fp16_storage = 1, False
    if net.load_param(str(folder / "model.ncnn.param")):
        raise RuntimeError("ncnn lacks an operator of this graph")
    net.load_model(str(folder / "model.ncnn.bin"))
    outputs = len(session(model).get_outputs())

    def run_one(arrays: list[np.ndarray]) -> list[np.ndarray]:
        extractor = net.create_extractor()
        for number, array in enumerate(arrays):
            extractor.input(f"in{number}", ncnn.Mat(np.ascontiguousarray(array[0])))
        return [np.array(extractor.extract(f"out{k}")[1]).reshape(1, -1) for k in range(outputs)]

    def run(feeds: Feeds) -> list[np.ndarray]:
        rows = [run_one(list(batch(feeds, k, 1).values())) for k in range(count(feeds))]
        return [np.concatenate(parts) for parts in zip(*rows)]

    return Converted((folder / "model.ncnn.bin").stat().st_size, run)


def web(model: Path, folder: Path, _: list[Feeds]) -> Converted:
    """ONNX Runtime as WebAssembly, in Node.js; models in ORT format."""
    size = ort_format(model, folder, _).size
    script, shipped = Path(__file__).with_name("deploy_web.mjs"), (folder / "model.ort").read_bytes()
    outputs = [output.name for output in session(model).get_outputs()]

    def run(feeds: Feeds) -> list[np.ndarray]:
        with tempfile.TemporaryDirectory() as folder:
            there = Path(folder)
            (there / "model.ort").write_bytes(shipped)
            inputs = []
            for number, (name, array) in enumerate(feeds.items()):
                array.tofile(there / f"{number}.raw")
                kind = {"dims": array.shape, "type": str(array.dtype)}
                inputs.append({"name": name, "file": f"{number}.raw", **kind})
            task = {"model": "model.ort", "inputs": inputs, "outputs": outputs}
            (there / "task.json").write_text(json.dumps(task))
            found = json.loads(shell("node", script, WEB.resolve(), there / "task.json"))
            return [np.array(output, np.float32).reshape(count(feeds), -1) for output in found]

    return Converted(size, run)


def count(feeds: Feeds) -> int:
    """Samples of a batch."""
    return max(len(array) for array in feeds.values())


def batch(feeds: Feeds, start: int, size: int) -> Feeds:
    """A part of the samples; the number of the selected task stays."""
    return {k: a if k == "task" else a[start : start + size] for k, a in feeds.items()}


def select(feeds: Feeds, task: int) -> Feeds:
    return feeds | {"task": np.array([task])}


def beside_python(program: str) -> str:
    """A program of a Python package."""
    return str(Path(sys.executable).with_name(program))


def shell(*command: object, cwd: Path | None = None) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, cwd=cwd)
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise RuntimeError(words[-1] if words else f"{command[0]} ended with {done.returncode}")
    return done.stdout


CONVERTERS = {
    "ort": Converter("ORT format", {}, ort_format),
    "optimised": Converter("optimised by ONNX Runtime, level ALL", {}, optimised),
    "float16": Converter(
        "float16, onnxconverter-common", {"onnxconverter_common": "onnxconverter-common"}, float16, 2e-2
    ),
    "float16_ort": Converter("float16, onnxruntime.transformers", {}, float16_by_runtime, 2e-2),
    "static": Converter("int8, QDQ", {}, static_int8, np.inf),
    "dynamic": Converter("int8, dynamic", {}, dynamic_int8, np.inf),
    "onnxsim": Converter("onnxsim", {"onnxsim": "onnxsim"}, simplified),
    "onnxslim": Converter("onnxslim", {"onnxslim": "onnxslim"}, slimmed),
    "openvino": Converter("OpenVINO", {"openvino": "openvino"}, openvino),
    "mnn": Converter("MNN", {"MNN": "MNN"}, mnn),
    "ncnn": Converter("ncnn, by pnnx", {"ncnn": "ncnn", "pnnx": "pnnx"}, ncnn),
    "web": Converter("ONNX Runtime Web", {"onnxruntime-web.js": "onnxruntime-web (npm)"}, web),
}
