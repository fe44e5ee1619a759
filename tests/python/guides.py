"""The commands of docs/guides and of the README, run as they stand, and what they print.

    python tests/python/guides.py [PAGE…]

Every block of `sh` and `python` is run in a fresh folder per page, in which `examples` and `fixtures`
are those of the repository. A block of `text` behind it holds lines of what was printed: numbers and
spaces may differ, and a line with `…` stands for any lines. A comment `<!-- needs: PACKAGE -->` before a
block skips it where Python does not find the package; `<!-- not run -->` skips it always.
"""

import importlib.util
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOL = Path(os.environ.get("ONNX_ZIP", ROOT / "target" / "release" / "onnx-zip"))
BLOCK = re.compile(r"(?:<!-- (?P<note>[^>]*) -->\n+)?```(?P<kind>sh|python|text)\n(?P<code>.*?)```", re.S)
# The README's other blocks build the tool and its package, or are run by python/tests.
README = "## On the command line"


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """Notes, kinds and texts of a page's blocks, in their order."""
    text = page.read_text(encoding="utf-8")
    if page.name == "README.md":
        text = text.split(README)[1].split("\n## ")[0]
    return [(m["note"] or "", m["kind"], m["code"]) for m in BLOCK.finditer(text)]


def left_out(note: str) -> str | None:
    """Why a block is not run."""
    if note == "not run":
        return "not run"
    packages = note.removeprefix("needs:").split() if note.startswith("needs:") else []
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return f"{', '.join(missing)} not installed" if missing else None


def alike(line: str) -> str:
    """A line without what may differ from run to run."""
    line = re.sub(r"\b\d[\d,.]*(e-?\d+)?", "#", line)
    line = re.sub(r"# (KiB|MiB|GiB|B|ns|µs|ms|s)\b", "# unit", line)
    return " ".join(line.split())


def lost(shown: str, printed: str) -> list[str]:
    """Lines of a page that were not printed."""
    there = {alike(line) for line in printed.splitlines()}
    return [line for line in shown.splitlines() if line.strip() not in ("", "…") and alike(line) not in there]


def run(kind: str, code: str, folder: Path) -> subprocess.CompletedProcess:
    paths = [str(TOOL.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
    places = {"PATH": os.pathsep.join(paths), "VIRTUAL_ENV": sys.prefix}
    command = [sys.executable, "-c", code] if kind == "python" else ["bash", "-euo", "pipefail", "-c", code]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.run(command, cwd=folder, env={**os.environ, **places}, check=False, **output)


def faults(page: Path) -> list[str]:
    """What is wrong with a page."""
    found, printed = [], None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for shared in ("examples", "fixtures"):
            (folder / shared).symlink_to(ROOT / shared)
        for note, kind, code in blocks(page):
            if kind == "text":
                if printed is not None:
                    found += [f"not printed: {line}" for line in lost(code, printed)]
            elif why := left_out(note):
                print(f"  left out ({why}): {code.splitlines()[0]}", flush=True)
                printed = None
            else:
                done = run(kind, code, folder)
                printed = done.stdout
                if os.environ.get("SHOW"):
                    print(f"{code}\n{printed}", flush=True)
                if done.returncode != 0:
                    found.append(f"exit code {done.returncode} of\n{code}\n{printed}")
    return found


def processor_time() -> float:
    """Seconds that all commands so far have computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    named = [Path(page).resolve() for page in sys.argv[1:]]
    pages = named or [ROOT / "README.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]
    wrong = 0
    for page in pages:
        start, work = time.monotonic(), processor_time()
        found = faults(page)
        wrong += len(found)
        took = f"{time.monotonic() - start:.0f} s, {processor_time() - work:.0f} s of processor time"
        print(f"{page.relative_to(ROOT)}: {took}", *found, sep="\n  ", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
