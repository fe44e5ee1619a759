"""Merges from stored statistics beside merges from samples: sizes and errors of three pairs of nets.

    .venv/bin/python examples/stored.py [PAIR…]

A net for MNIST with one for Fashion-MNIST, nothing retrained: 3 000 unlabelled training images of each task, or
their statistics, which `onnx-zip calibrate` stored, and no sample, or 300 samples that measure what layers lose.
Prints one table per pair: all layers shared, the default, and a size, by `refit` and by the paper's method. The
last column is the part of the answers that differ from the originals', mean over both tasks.
"""

import argparse
import json
from pathlib import Path

from experiment import DATA, MODELS, OUT, data_options, differing, errors, merge, subset, table, tool

TASKS = ("mnist", "fashion")
SAMPLES = 3000
FEW = 300
ROWS = ("--max-rows", 65536)
PAIRS = {
    "lenet300": ("LeNet-300-100", ("lenet300_mnist_a", "lenet300_fashion")),
    "resnet": ("ResNet", ("zoo/resnet_mnist", "zoo/resnet_fashion")),
    "mobilenet": ("MobileNet", ("zoo/mobilenet_mnist", "zoo/mobilenet_fashion")),
}
SIZES = {
    "full": ("--share", "1"),
    "default": (),
    "60": ("--target-size", "60%"),
}
WAYS = {
    "samples": ("`refit` from samples", ()),
    "stored": ("`refit` from statistics", ()),
    "stored_few": (f"`refit` from statistics, {FEW} samples to measure", ()),
    "samples_mtz": ("`mtz` from samples", ("--method", "mtz")),
    "stored_mtz": ("`mtz` from statistics", ("--method", "mtz")),
}
# Where there is nothing to measure or to choose.
LEFT_OUT = {"full": ("stored_few",), "default": ("samples_mtz", "stored_mtz")}


def statistics(pair: str, models: list[Path], train: list[Path]) -> list[object]:
    """The options that name both nets' statistics, which are stored unless they were before."""
    words: list[object] = []
    for task, model, samples in zip(TASKS, models, train):
        file = OUT / "stored" / f"{pair}_{task}.gram"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            tool("calibrate", model, "--data", samples, "--scale", "1/255", "-o", file, *ROWS)
        words += ["--gram", file]
    return words


def from_statistics(joint: Path, models: list[Path], gram: list[object], *options: str) -> dict:
    """Merge without samples, unless `joint` was made before; the report."""
    report = joint.with_suffix(".json")
    if not report.exists():
        tool("merge", *models, "-o", joint, "--report", report, "--no-verify", *gram, *options)
    return json.loads(report.read_text())


def report(pair: str) -> None:
    name, stems = PAIRS[pair]
    models = [MODELS / f"{stem}.onnx" for stem in stems]
    train = [subset(f"{task}_train", SAMPLES) for task in TASKS]
    test = [DATA / f"{task}_test.npz" for task in TASKS]
    gram = statistics(pair, models, train)
    rows, before = [], ""
    for size, options in SIZES.items():
        for way, (words, method) in WAYS.items():
            if way in LEFT_OUT.get(size, ()):
                continue
            joint = OUT / "stored" / f"{pair}_{size}_{way}.onnx"
            if way.startswith("stored"):
                few = [subset(f"{task}_train", FEW) for task in TASKS] if way == "stored_few" else []
                made = from_statistics(joint, models, [*gram, *data_options(few)], *options, *method)
            else:
                made = merge(joint, models, train, *options, *method, *ROWS)
            found = errors(joint, models, test)
            before = " / ".join(f"{of:.2f}" for of, _ in found)
            rise = sum(after - of for of, after in found) / len(found)
            differ = sum(off := differing(joint, models, test)) / len(off)
            rows.append([
                f"`{' '.join(options)}`" if options else "none",
                words,
                f"{made['compression']['parameters_of_all']:.1%}",
                " / ".join(f"{after:.2f}" for _, after in found),
                f"{rise:+.2f}",
                f"{differ:.2f}%",
            ])
    print(f"\n{name}, before {before}\n")
    header = ["options", "way", "parameters", "MNIST / Fashion-MNIST", "rise", "differ"]
    print(table(header, rows), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", nargs="*", metavar="PAIR", help=f"of {', '.join(PAIRS)}")
    for pair in parser.parse_args().pairs or PAIRS:
        report(pair)


if __name__ == "__main__":
    main()
