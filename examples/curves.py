"""Size against error with neurons as the unit of sharing, for four convolutional nets.

    .venv/bin/python examples/curves.py [NET…]

A net of MNIST is merged with one of Fashion-MNIST at five shares by three methods, with 3 000
unlabelled training images of each task and nothing retrained, and measured on the 10 000 test images
of each. Prints one table per pair. With matplotlib, which is not among the requirements, draws docs/images/size-error.svg too.
"""

import sys
from pathlib import Path

from experiment import DATA, MODELS, NEURONS, OUT, ROOT, errors, merge, subset, table

NETS = {"resnet": "ResNet", "mobilenet": "MobileNet", "inception": "Inception", "vggbn": "VGG"}
SHARES = (0.25, 0.5, 0.75, 0.9, 1.0)
METHODS = {
    "refit": ("--method", "refit"),
    "mtz": ("--method", "mtz"),
    "random": ("--method", "mtz", "--matcher", "random"),
}
SAMPLES = 3000
ROWS = 65536
TASKS = ("mnist", "fashion")

Point = tuple[float, list[tuple[float, float]]]


def point(net: str, method: str, share: float) -> Point:
    """A merge at one share by one method."""
    options = (*NEURONS, "--share", share, *METHODS[method])
    return measured(net, OUT / "curves" / f"{net}_{method}_{share}.onnx", *options)


def measured(net: str, joint: Path, *options: object, part: int = 0) -> Point:
    """Parameters of the joint model as a part of both nets', and the errors of both tasks."""
    models = [MODELS / "zoo" / f"{net}_{task}.onnx" for task in TASKS]
    train = [subset(f"{task}_train", SAMPLES, part) for task in TASKS]
    report = merge(joint, models, train, "--max-rows", ROWS, *options)
    joined = report["joint"]["parameters"]["total"]
    both = sum(task["parameters"] for task in report["tasks"])
    size = joined / both
    return size, errors(joint, models, [DATA / f"{task}_test.npz" for task in TASKS])


def rise(pairs: list[tuple[float, float]]) -> float:
    """By how much the mean error of the tasks rises, in points."""
    return sum(after - before for before, after in pairs) / len(pairs)


def draw(curves: dict) -> None:
    """One panel per net: the rise of the mean error over the size, both methods and chance."""
    try:
        import matplotlib
    except ImportError:
        return print("no matplotlib: no picture")
    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "onnx-zip", "font.size": 9})
    figure, panels = plt.subplots(1, len(curves), figsize=(3 * len(curves), 2.8), sharey=True)
    for panel, (net, methods) in zip(panels, curves.items()):
        for (method, points), marker in zip(methods.items(), "os^"):
            sizes = [100 * size for size, _ in points]
            panel.plot(sizes, [rise(m) for _, m in points], marker=marker, ms=3, label=method)
        panel.set(title=NETS[net], xlabel="parameters, % of both nets", yscale="symlog")
        panel.set_yticks([0, 1, 10, 50], ["0", "1", "10", "50"])
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("rise of mean error, points")
    panels[0].legend(frameon=False)
    figure.tight_layout()
    path = ROOT / "docs" / "images" / "size-error.svg"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    nets = sys.argv[1:] or list(NETS)
    curves: dict = {net: {method: [] for method in METHODS} for net in nets}
    for net in nets:
        rows = []
        for share in SHARES:
            points = {method: point(net, method, share) for method in METHODS}
            for method, found in points.items():
                curves[net][method].append(found)
            size = points["refit"][0]
            after = [" / ".join(f"{a:.2f}" for _, a in points[m][1]) for m in METHODS]
            rows.append([f"{share:.0%}", f"{size:.1%}", *after])
            before = " / ".join(f"{b:.2f}" for b, _ in points["refit"][1])
        print(f"\n{NETS[net]}, test error in % of MNIST / Fashion-MNIST; before {before}\n")
        print(table(["share", "size", *METHODS], rows), flush=True)
    if nets == list(NETS):
        draw(curves)


if __name__ == "__main__":
    main()
