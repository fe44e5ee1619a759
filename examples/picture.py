"""Draws the picture at the top of the README, docs/images/trade-off.svg, from the tables of docs.

    python examples/picture.py [--check]

The numbers are those of docs/results.md and docs/retraining.md, which examples/layers.py and
examples/curves.py measured. `--check` says whether the picture is that of the tables.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "trade-off.svg"
NETS = ("ResNet", "MobileNet")
WIDTH, HEIGHT, LEFT, TOP, PANEL, GAP, DEPTH = 760, 330, 52, 84, 322, 44, 196
SIZES, RISES = (48, 102), (0, 8)
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f } .small { font-size: 11px; fill: #57606a }
.title { font-weight: 600; font-size: 13px } .grid { stroke: #d0d7de } path { fill: none; stroke-width: 2 }
.layers { stroke: #0969da; fill: #0969da } .neurons { stroke: #8250df; fill: #8250df }
.paper { stroke: #8c959f; fill: #8c959f } .retrained { stroke: #1a7f37; fill: #1a7f37 }
path.layers, path.neurons, path.paper { fill: none } .knee { fill: none; stroke: #0969da; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .small { fill: #9198a1 } .grid { stroke: #3d444d }
.layers { stroke: #58a6ff; fill: #58a6ff } .knee { stroke: #58a6ff } .neurons { stroke: #bc8cff; fill: #bc8cff }
.retrained { stroke: #3fb950; fill: #3fb950 } path.layers, path.neurons, path.paper { fill: none }
}"""
LEGEND = [
    ("knee", "no option"),
    ("layers", "whole layers, the default"),
    ("retrained", "the same, retrained"),
    ("neurons", "single neurons"),
    ("paper", "the paper's method"),
]

Point = tuple[float, float]


def section(page: str, heading: str) -> str:
    """What stands below a heading, up to the next one of its level."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    level = heading.split()[0]
    return text.split(f"\n{heading}\n")[1].split(f"\n{level} ")[0]


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def of_net(text: str, net: str) -> tuple[list[float], list[list[str]]]:
    """Errors of a net's originals, and the rows of its table."""
    own = re.split(r"\n(?=\w+, before )", text)
    part = next(part for part in own if part.startswith(f"{net}, before "))
    return errors(part.split("before ")[1].split(":")[0]), rows(part)[2:]


def errors(cell: str) -> list[float]:
    return [float(number) for number in cell.split(" / ")]


def number(cell: str) -> float:
    """A number, or the percents or points of a cell."""
    return float(re.search(r"[+−-]?[\d.]+", cell)[0].replace("−", "-"))


def curves(net: str) -> tuple[dict[str, list[Point]], Point]:
    """Every way's sizes and rises, smallest first, and the merge without options."""
    _, layers = of_net(section("results.md", "## Whole layers"), net)
    others = ("--biases", "--delta", "--unit")
    plain = [r for r in layers if not any(option in r[0] for option in others)]
    found = {"layers": [(number(r[1]), number(r[3])) for r in plain]}
    knee = next((number(r[1]), number(r[3])) for r in layers if r[0].rstrip(" †") == "none")
    before, shares = of_net(section("results.md", "## Size against error with neurons"), net)
    for way, column in (("neurons", 2), ("paper", 3)):
        rise = [(sum(errors(r[column])) - sum(before)) / len(before) for r in shares]
        found[way] = [(number(r[1]), points) for r, points in zip(shares, rise)]
    for way in found:
        found[way] = lower_left([*found[way], (100.0, 0.0)])
    trained = rows(section("retraining.md", "### Whole layers"))
    found["retrained"] = [(number(r[3]), number(r[5].split("(")[1])) for r in trained if r[0] == net]
    return found, knee


def lower_left(points: list[Point]) -> list[Point]:
    """Points by size, without those that are larger than another and no better."""
    kept: list[Point] = []
    for point in sorted(points):
        if not kept or point[1] < kept[-1][1]:
            kept.append(point)
    return kept


def panel(net: str, left: float) -> list[str]:
    def at(point: Point) -> tuple[float, float]:
        x = left + PANEL * (point[0] - SIZES[0]) / (SIZES[1] - SIZES[0])
        return x, TOP + DEPTH * (1 - (point[1] - RISES[0]) / (RISES[1] - RISES[0]))

    lines = [f'<text class="title" x="{left}" y="{TOP - 14}">{net}, MNIST + Fashion-MNIST</text>']
    for rise in range(0, RISES[1] + 1, 2):
        _, y = at((0, rise))
        lines.append(f'<line class="grid" x1="{left}" x2="{left + PANEL}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text class="small" text-anchor="end" x="{left - 6}" y="{y + 4:.1f}">{rise}</text>')
    for size in range(50, 101, 10):
        x, _ = at((size, 0))
        lines.append(f'<text class="small" text-anchor="middle" x="{x:.1f}" y="{TOP + DEPTH + 18}">{size} %</text>')
    found, knee = curves(net)
    for way, points in found.items():
        places = [at(point) for point in points]
        if len(places) > 1:
            path = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in places)
            lines.append(f'<path class="{way}" clip-path="url(#clip{left})" d="{path}"/>')
        for x, y in places:
            if y >= TOP:
                lines.append(f'<circle class="{way}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
    x, y = at(knee)
    lines.append(f'<circle class="knee" cx="{x:.1f}" cy="{y:.1f}" r="7"/>')
    label = f"{knee[0]:.0f} %, +{knee[1]:.2f}"
    # Between the curves.
    above = 14 if knee[1] > 1 else 34
    lines.append(f'<text x="{x + 10:.1f}" y="{y - above:.1f}">{label}</text>')
    clip = f'<clipPath id="clip{left}"><rect x="{left}" y="{TOP}" width="{PANEL}" height="{DEPTH + 2}"/></clipPath>'
    return [clip, *lines]


def picture() -> str:
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">',
        "<title>Rise of the mean test error, in points, over the parameters of the joint model</title>",
        f"<style>{STYLE}\n</style>",
    ]
    x = LEFT
    for way, words in LEGEND:
        lines.append(f'<circle class="{way}" cx="{x}" cy="20" r="4"/><text x="{x + 9}" y="24">{words}</text>')
        x += 30 + 6.4 * len(words)
    lines.append('<text class="small" x="12" y="46">rise of the mean test error, points</text>')
    for number, net in enumerate(NETS):
        lines += panel(net, LEFT + number * (PANEL + GAP))
    middle, bottom = WIDTH / 2, HEIGHT - 12
    lines.append(
        f'<text class="small" text-anchor="middle" x="{middle}" y="{bottom}">parameters of the joint model, % of both nets</text>'
    )
    return "\n".join([*lines, "</svg>", ""])


def main() -> None:
    if sys.argv[1:] == ["--check"]:
        if PICTURE.read_text(encoding="utf-8") != picture():
            sys.exit(f"{PICTURE} does not show the tables: run {Path(__file__).name}")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        PICTURE.write_text(picture(), encoding="utf-8")


if __name__ == "__main__":
    main()
