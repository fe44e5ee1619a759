"""Two tasks that see the same pictures: error against work and size for the ways to share.

    .venv/bin/python examples/one_input.py

Merges the ResNet for the ten classes of Fashion-MNIST with one for five kinds of clothes
(`fixtures/train_zoo.py resnet_kinds`), with 3 000 unlabelled training images and nothing retrained, and
measures both on the 10 000 test images. Both read one input, so a layer is computed once where all before
it is common, biases included. Prints one table, with parameters, multiply-adds and latency as parts of both
nets' (one thread, a picture at a time). With matplotlib, which is not among the requirements, draws
docs/images/one-input.svg too.
"""

import re
from pathlib import Path

import numpy as np

from curves import ROWS, SAMPLES, rise
from experiment import DATA, MODELS, OUT, ROOT, errors, merge, subset, table

NETS = ["resnet_fashion", "resnet_kinds"]
# Labels of Fashion-MNIST by kind, as in fixtures/train_zoo.py.
KINDS = np.array([0, 1, 2, 0, 2, 3, 0, 3, 4, 3])
STAGES = tuple(f"*features.{stage}/*" for stage in (0, 2, 3, 4))
FULL = ("--share", "1", "--biases", "shared")
WAYS = {
    "trunk": [("--until", stage, *FULL) for stage in STAGES],
    "layers": [(), *(("--target-size", f"{size}%") for size in (57, 65, 75, 85)), ("--share", "1")],
    "differences": [("--target-size", f"{size}%", "--delta", "int4") for size in (57, 65)],
    "common biases": [("--target-size", "57%", "--biases", "shared"), FULL],
    "neurons": [("--unit", "neuron", "--share", share) for share in ("0.5", "0.75", "0.9", "1")],
    "mixed": [("--unit", "mixed", "--target-size", f"{size}%") for size in (57, 75)],
}
LINES = {
    "trunk": ("o-", "one trunk (--until)"),
    "layers": ("s-", "whole layers"),
    "differences": ("D-", "whole layers, differences of 4 bits"),
    "common biases": ("P-", "whole layers, common biases"),
    "neurons": ("^-", "neurons"),
    "mixed": ("x-", "either unit (mixed)"),
}

# Parameters, multiply-adds and latency as parts of both nets', and each task's error before and after.
Point = tuple[float, float, float, list[tuple[float, float]]]


def kinds(name: str) -> Path:
    """The same pictures with their kinds as labels."""
    path = OUT / "one_input" / f"kinds_{name}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = np.load(DATA / f"fashion_{name}.npz")
        np.savez(path, image=arrays["image"], labels=KINDS[arrays["labels"]])
    return path


def point(options: tuple[str, ...]) -> Point:
    models = [MODELS / "zoo" / f"{net}.onnx" for net in NETS]
    name = re.sub(r"[^\w.-]", "", "_".join(options)) or "none"
    joint = OUT / "one_input" / f"{name}.onnx"
    train = [subset("fashion_train", SAMPLES)]
    report = merge(joint, models, train, "--max-rows", ROWS, *options)["comparison"]
    parts = (report[key]["ratio"] for key in ("parameters", "multiply_adds", "latency"))
    return *parts, errors(joint, models, [DATA / "fashion_test.npz", kinds("test")])


def draw(found: dict[str, list[Point]]) -> None:
    """Rise of the mean error over latency, and over parameters."""
    try:
        import matplotlib
    except ImportError:
        return print("no matplotlib: no picture")
    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "onnx-zip", "font.size": 9})
    figure, panels = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    for axes, place, label in zip(panels, (2, 0), ("latency", "parameters")):
        for way, (style, words) in LINES.items():
            points = sorted((100 * p[place], rise(p[3])) for p in found[way])
            axes.plot(*zip(*points), style, label=words, markersize=4, linewidth=1)
        axes.set_xlabel(f"{label}, % of both nets")
        axes.set_yscale("symlog", linthresh=0.2)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("rise of the mean test error, points")
    labels = panels[0].get_legend_handles_labels()
    figure.legend(*labels, loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(ROOT / "docs" / "images" / "one-input.svg", metadata={"Date": None})


def main() -> None:
    found = {way: [point(options) for options in ways] for way, ways in WAYS.items()}
    rows = []
    for way, ways in WAYS.items():
        for options, (*parts, pairs) in zip(ways, found[way]):
            words = f"`{' '.join(options)}`" if options else "none"
            after = " / ".join(f"{after:.2f}" for _, after in pairs)
            rows.append([words, *(f"{part:.0%}" for part in parts), after, f"{rise(pairs):+.2f}"])
    before = " / ".join(f"{before:.2f}" for before, _ in found["layers"][0][3])
    print(f"before {before}\n")
    header = ["options", "parameters", "multiply-adds", "latency", "classes / kinds", "rise"]
    print(table(header, rows))
    draw(found)


if __name__ == "__main__":
    main()
