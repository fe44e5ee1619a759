"""The results of a proof, as text for people and as JSON."""

import json
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

# Parts of a merge, by their names in its report.
STAGES = {"sensitivities": "sensitivities", "statistics": "passes and Gram matrices",
          "verify": "verification"}


class Results:
    """Collects results and writes them after each."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.data = {"machine": {}, "checks": [], "merges": {}, "training": {}, "agreement": [], "details": {}}
        self.failures: list[str] = []

    def machine(self, without_cuda: str | None) -> None:
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        try:
            gpu = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            gpu = "none"
        self.data["machine"] = {"processor": processor(), "threads": os.cpu_count(), "gpu": gpu,
                                "without_cuda": without_cuda}
        self.write()

    def attempt(self, what: str, work: Callable[[], None]) -> None:
        """What fails is a result too: the rest goes on."""
        try:
            work()
        except Exception as error:
            self.failures.append(f"{what}: {error}")
            self.write()
            print(f"FAILED {what}: {error}", flush=True)

    def say(self, what: str, said: str, seconds: float, right: bool) -> None:
        self.data["checks"].append({"what": what, "said": said, "seconds": seconds, "right": right})
        if not right:
            self.failures.append(f"{what}: {said}")
        print(f"{what}: {said}", flush=True)
        self.write()

    def detail(self, what: str, detail: dict) -> None:
        self.data["details"][what] = detail
        self.write()

    def merge(self, case: str, device: str, merged: dict) -> None:
        self.data["merges"].setdefault(case, {})[device] = merged
        print(f"{case}, merge on {device}: {merged['seconds']:.2f} s", flush=True)
        self.write()

    def training(self, case: str, device: str, rate: dict) -> None:
        self.data["training"].setdefault(case, {})[device] = rate
        print(f"{case}, training on {device}: {rate['steps_per_second']:.1f} steps/s", flush=True)
        self.write()

    def agreement(self, case: str, what: str, deviation: float | None, limit: float | None) -> None:
        if deviation is None:
            return
        self.data["agreement"].append({"case": case, "what": what, "deviation": deviation, "limit": limit})
        if limit and deviation > limit:
            self.failures.append(f"{case}: {what} differ by {deviation:.1e} of the largest output")
        self.write()

    def close(self) -> None:
        self.write()
        print()
        print((self.folder / "gpu.md").read_text())

    def write(self) -> None:
        data = {**self.data, "failures": self.failures}
        (self.folder / "gpu.json").write_text(json.dumps(data, indent=1))
        (self.folder / "gpu.md").write_text("\n".join(self.lines()) + "\n")

    def lines(self) -> list[str]:
        machine = self.data["machine"]
        lines = [f"{machine['processor']}, {machine['threads']} threads; GPU: {machine['gpu']}", ""]
        if machine["without_cuda"]:
            lines += [f"No CUDA here, so its half was left out: {machine['without_cuda']}", ""]
        lines += ["| | CPU | CUDA | ratio |", "|---|---:|---:|---:|"]
        for case, merged in self.data["merges"].items():
            lines.append(row(f"{case}: merge, s", merged, lambda m: m["seconds"], faster=False))
            for stage, what in STAGES.items():
                lines.append(row(f"{case}: {what}, s", merged, lambda m, s=stage: m["stages"].get(s, 0.0),
                                 faster=False))
            lines.append(row(f"{case}: whole command, s", merged, lambda m: m["wall"], faster=False))
        for case, rates in self.data["training"].items():
            lines.append(row(f"{case}: training steps a second", rates, lambda r: r["steps_per_second"],
                             faster=True))
        lines += self.agreements() + self.checks()
        if self.failures:
            lines += ["", "Failed:", ""] + [f"- {failure}" for failure in self.failures]
        return lines

    def agreements(self) -> list[str]:
        lines = []
        for agreement in self.data["agreement"]:
            lines.append(f"- {agreement['case']}, {agreement['what']} of CUDA and of the CPU: largest "
                         f"difference of outputs over the largest output {agreement['deviation']:.1e}")
        for case, merged in self.data["merges"].items():
            for device, told in merged.items():
                if told["against_tract"] is not None:
                    lines.append(f"- {case}, one joint model in {told['runtime']} against tract: relative "
                                 f"difference {told['against_tract']:.1e} (merged on {device})")
        return ["", *lines] if lines else []

    def checks(self) -> list[str]:
        lines = [f"- {check['what']}{'' if check['right'] else ' (WRONG)'}: {check['said']}"
                 for check in self.data["checks"]]
        return ["", *lines] if lines else []


def row(what: str, by_device: dict, value: Callable[[dict], float], *, faster: bool) -> str:
    """A row of the table; the ratio says how many times faster CUDA is."""
    cells = {device: value(told) for device, told in by_device.items()}
    texts = [f"{cells[device]:.2f}" if device in cells else "–" for device in ("cpu", "cuda")]
    ratio = "–"
    if len(cells) == 2 and min(cells.values()) > 0:
        ratio = f"{cells['cuda'] / cells['cpu'] if faster else cells['cpu'] / cells['cuda']:.1f}"
    return f"| {what} | {texts[0]} | {texts[1]} | {ratio} |"


def processor() -> str:
    try:
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines()
                 if line.startswith("model name")]
        return names[0].split(":", 1)[1].strip()
    except (OSError, IndexError):
        return platform.machine()
