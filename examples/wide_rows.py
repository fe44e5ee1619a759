"""How many rows a wide layer needs: the first layer of LeNet-300-100, of 784 inputs, alone.

    .venv/bin/python examples/wide_rows.py

Two nets share all neurons of their first layer and nothing else, by `refit`, calibrated on more and more
images. Up to half as many images as inputs, the work goes by the samples themselves. Each row is the
mean of the seeds.
"""

import statistics

from experiment import DATA, MODELS, OUT, errors, merge, table

PAIRS = {
    "MNIST + MNIST": (["lenet300_mnist_a", "lenet300_mnist_b"], ["mnist", "mnist"]),
    "MNIST + Fashion-MNIST": (["lenet300_mnist_a", "lenet300_fashion"], ["mnist", "fashion"]),
}
ROWS = [8, 16, 32, 64, 128, 256, 392, 512, 1024, 2048, 4096, 10_000]
SEEDS = range(3)


def measured(pair: str, rows: int, seed: int) -> list[tuple[float, float]]:
    """Each task's error before and after."""
    names, sets = PAIRS[pair]
    models = [MODELS / f"{name}.onnx" for name in names]
    joint = OUT / "wide" / f"{'_'.join(names)}_{rows}_{seed}.onnx"
    options = ["--samples", rows, "--seed", seed, "--keep-shared", "*=0"]
    options += ["--keep-shared", first_layer(names[0]) + "=1.0"]
    merge(joint, models, [DATA / f"{name}_train.npz" for name in sets], *options)
    return errors(joint, models, [DATA / f"{name}_test.npz" for name in sets])


def first_layer(model: str) -> str:
    """The name of a model's first layer."""
    import onnx

    nodes = onnx.load(MODELS / f"{model}.onnx").graph.node
    return next(node.name for node in nodes if node.op_type in ("Gemm", "MatMul"))


def main() -> None:
    for pair in PAIRS:
        lines = []
        for rows in ROWS:
            runs = [measured(pair, rows, seed) for seed in SEEDS]
            means = [[statistics.mean(both) for both in zip(*task)] for task in zip(*runs)]
            rise = statistics.mean(after - before for before, after in means)
            after = " / ".join(f"{after:.2f}" for _, after in means)
            before = " / ".join(f"{before:.2f}" for before, _ in means)
            lines.append([str(rows), f"{rows / 784:.2f}", before, after, f"{rise:+.2f}"])
        print(f"\n{pair}\n")
        print(table(["rows", "of inputs", "before", "after", "rise"], lines), flush=True)


if __name__ == "__main__":
    main()
