"""Small nets that stand in for real ones on the pages of docs/guides, and the samples they see.

    python examples/guides/standins.py faces|texts|words FOLDER

Takes numpy, onnx and onnxruntime, and seconds. Every net does its task on the drawn samples.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

Layer = tuple[np.ndarray, np.ndarray]


class Net:
    """A graph that grows node by node; every method returns the name of its output."""

    def __init__(self, source: str, shape: list):
        self.source = helper.make_tensor_value_info(source, TensorProto.FLOAT, shape)
        self.nodes, self.weights = [], []

    def add(self, op: str, inputs: list[str], name: str, *weights: np.ndarray, **attributes) -> str:
        names = [f"{name}.{part}" for part, _ in zip(("weight", "bias"), weights)]
        self.weights += [numpy_helper.from_array(v, n) for v, n in zip(weights, names)]
        self.nodes.append(helper.make_node(op, [*inputs, *names], [name], name=name, **attributes))
        return name

    def conv(self, value: str, name: str, layer: Layer, strides: list[int], pads: list[int]) -> str:
        value = self.add("Conv", [value], f"{name}/conv", *layer, strides=strides, pads=pads)
        return self.add("Relu", [value], f"{name}/relu")

    def model(self, output: str, shape: list | None = None) -> onnx.ModelProto:
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "net", [self.source], [result], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto, samples: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: samples})[0]


def random_layer(rng: np.random.Generator, *shape: int) -> Layer:
    scale = np.sqrt(2 / np.prod(shape[1:]))
    return (scale * rng.standard_normal(shape)).astype(np.float32), np.zeros(shape[0], np.float32)


def tuned(rng: np.random.Generator, layers: list[Layer], much: float) -> list[Layer]:
    """Weights as they are after some training of one's own."""
    moved = [w + much * w.std() * rng.standard_normal(w.shape).astype(np.float32) for w, _ in layers]
    return [(weights, bias) for weights, (_, bias) in zip(moved, layers)]


def linear(features: np.ndarray, labels: np.ndarray, classes: int) -> Layer:
    """The layer [classes, features] that fits best, by least squares."""
    rows = np.hstack([features, np.ones((len(features), 1), np.float32)]).astype(np.float64)
    wanted = 4 * np.eye(classes)[labels] - 2
    damped = rows.T @ rows + 1e-3 * len(rows) * np.eye(rows.shape[1])
    found = np.linalg.solve(damped, rows.T @ wanted).T.astype(np.float32)
    return np.ascontiguousarray(found[:, :-1]), np.ascontiguousarray(found[:, -1])


# Faces: one camera frame, three nets of one family.

FACE_TASKS = {"smile": 2, "eyes": 2, "turn": 3}


def frames(count: int, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Drawn faces of 32 × 32 pixels: mouths that smile or not, eyes open or shut, heads turned."""
    rng = np.random.default_rng(seed)
    labels = {task: rng.integers(0, classes, count) for task, classes in FACE_TASKS.items()}
    y, x = np.mgrid[0:32, 0:32].astype(np.float32)
    images = rng.normal(60, 12, (count, 32, 32))
    for image, smile, eyes, turn in zip(images, *labels.values()):
        centre_x, centre_y = 16 + rng.normal(0, 1), 16 + rng.normal(0, 1)
        image[((x - centre_x) / 11) ** 2 + ((y - centre_y) / 14) ** 2 < 1] += 110
        middle = centre_x + 4 * (turn - 1)
        for eye in (middle - 4, middle + 4):
            image[((x - eye) / 2) ** 2 + ((y - centre_y + 4) / (2 if eyes else 0.7)) ** 2 < 1] -= 100
        curve = centre_y + 6 + (2 - (x - middle) ** 2 / 9 if smile else 0)
        image[(abs(x - middle) < 5) & (abs(y - curve) < 1)] -= 100
    return images.clip(0, 255).astype(np.uint8)[:, None], labels


def faces(folder: Path) -> None:
    rng = np.random.default_rng(0)
    backbone = [random_layer(rng, 16, 1, 3, 3), random_layer(rng, 32, 16, 3, 3), random_layer(rng, 48, 32, 3, 3)]
    images, labels = frames(1500, seed=1)
    for task, classes in FACE_TASKS.items():
        net = Net("image", ["batch", 1, 32, 32])
        value = "image"
        for number, layer in enumerate(tuned(rng, backbone, 0.2), 1):
            value = net.conv(value, f"block{number}", layer, [2, 2], [1, 1, 1, 1])
        value = net.add("Flatten", [value], "features")
        features = run(net.model(value), images.astype(np.float32) / 255)
        net.add("Gemm", [value], "scores", *linear(features, labels[task], classes), transB=1)
        onnx.save(net.model("scores", ["batch", classes]), folder / f"{task}.onnx")
    np.savez(folder / "frames.npz", image=images)
    images, labels = frames(500, seed=2)
    for task in FACE_TASKS:
        np.savez(folder / f"{task}_test.npz", image=images, labels=labels[task])


# Texts: recognisers of three alphabets, lines of any width.

ALPHABETS = {"latin": 26, "greek": 24, "digits": 10}


def lines(glyphs: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images [count, 3, 16, 64] of eight glyphs each, and which glyphs they are."""
    texts = rng.integers(0, len(glyphs), (count, 8))
    images = rng.normal(0, 0.15, (count, 3, 16, 64)).astype(np.float32)
    for at in range(8):
        images[:, :, 3:13, 8 * at + 1 : 8 * at + 7] += glyphs[texts[:, at], None]
    return images, texts


def texts(folder: Path) -> None:
    rng = np.random.default_rng(0)
    backbone = [
        *(random_layer(rng, 16, 3, 3, 3), random_layer(rng, 32, 16, 3, 3)),
        *(random_layer(rng, 64, 32, 3, 3), random_layer(rng, 96, 64, 2, 1)),
    ]
    for alphabet, size in ALPHABETS.items():
        # Glyphs of 10 × 6 pixels, of five strokes each.
        glyphs = np.kron(rng.integers(0, 2, (size, 5, 3)), np.ones((2, 2))).astype(np.float32)
        images, found = lines(glyphs, 400, rng)
        net = Net("x", ["batch", 3, 16, "width"])
        value = "x"
        *blocks, last = tuned(rng, backbone, 0.2)
        for number, layer in enumerate(blocks, 1):
            value = net.conv(value, f"block{number}", layer, [2, 2], [1, 1, 1, 1])
        value = net.conv(value, "rows", last, [1, 1], [0, 0, 0, 0])
        axis = numpy_helper.from_array(np.array([2]), "axis")
        net.weights.append(axis)
        value = net.add("Squeeze", [value, "axis"], "line")
        value = net.add("Transpose", [value], "steps", perm=[0, 2, 1])
        steps = run(net.model(value), images)
        weight, bias = linear(steps.reshape(-1, steps.shape[-1]), found.ravel(), size)
        value = net.add("MatMul", [value], "product", np.ascontiguousarray(weight.T))
        net.weights.append(numpy_helper.from_array(bias, "scores.bias"))
        value = net.add("Add", [value, "scores.bias"], "scores")
        net.add("Softmax", [value], "glyphs", axis=-1)
        onnx.save(net.model("glyphs", ["batch", "steps", size]), folder / f"{alphabet}.onnx")
        np.savez(folder / f"{alphabet}.npz", x=images)
        images, found = lines(glyphs, 100, rng)
        np.savez(folder / f"{alphabet}_test.npz", x=images, texts=found)


# Words: detectors behind one net of embeddings, 16 steps of 96 numbers.

WORDS = ("hello", "lights", "stop")


def sounds(tunes: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Noisy tunes, at changing loudness, and which tune each is."""
    which = rng.integers(0, len(tunes), count)
    loud = rng.uniform(0.5, 1.5, (count, 1, 1))
    return (loud * tunes[which] + rng.normal(0, 1, (count, 16, 96))).astype(np.float32), which


def trained(rows: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> list[Layer]:
    """Two layers of 32 and one number, trained by Adam to tell one word from all else."""
    layers = [random_layer(rng, *shape) for shape in ((32, rows.shape[1]), (32, 32), (1, 32))]
    state = [[np.zeros_like(p), np.zeros_like(p)] for layer in layers for p in layer]
    for step in range(1, 201):
        picked = rng.integers(0, len(rows), 64)
        values = [rows[picked]]
        for weight, bias in layers[:-1]:
            values.append(np.maximum(values[-1] @ weight.T + bias, 0))
        score = values[-1] @ layers[-1][0].T + layers[-1][1]
        slope = (1 / (1 + np.exp(-score)) - wanted[picked, None]) / len(picked)
        slopes = []
        for (weight, _), value in zip(reversed(layers), reversed(values)):
            slopes = [slope.T @ value, slope.sum(axis=0), *slopes]
            slope = (slope @ weight) * (value > 0)
        for parameter, gradient, (mean, square) in zip([p for l in layers for p in l], slopes, state):
            mean += 0.1 * (gradient - mean)
            square += 0.01 * (gradient**2 - square)
            rate = 2e-3 * np.sqrt(1 - 0.99**step) / (1 - 0.9**step)
            parameter -= (rate * mean / (np.sqrt(square) + 1e-8)).astype(np.float32)
    return layers


def words(folder: Path) -> None:
    rng = np.random.default_rng(0)
    tunes = np.cumsum(rng.normal(0, 0.12, (12, 16, 96)), axis=1)
    heard, which = sounds(tunes, 3000, rng)
    for number, word in enumerate(WORDS):
        net = Net("embeddings", ["batch", 16, 96])
        value = net.add("Flatten", ["embeddings"], "flat")
        layers = trained(heard.reshape(len(heard), -1), (which == number).astype(np.float32), rng)
        for at, layer in enumerate(layers, 1):
            value = net.add("Gemm", [value], f"layer{at}", *layer, transB=1)
            if at < len(layers):
                value = net.add("Relu", [value], f"relu{at}")
        net.add("Sigmoid", [value], "heard")
        onnx.save(net.model("heard", ["batch", 1]), folder / f"{word}.onnx")
    np.savez(folder / "sounds.npz", embeddings=heard)
    heard, which = sounds(tunes, 1000, rng)
    np.savez(folder / "sounds_test.npz", embeddings=heard, word=which)


def main() -> None:
    makers = {"faces": faces, "texts": texts, "words": words}
    if len(sys.argv) != 3 or sys.argv[1] not in makers:
        sys.exit(__doc__)
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    makers[sys.argv[1]](folder)


if __name__ == "__main__":
    main()
