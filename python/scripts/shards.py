#!/usr/bin/env python3
"""Measures what a merge in shards spends on workers: seconds of a core per sample, and bytes of messages.

shards.py DATA MODEL MODEL…   with options of merge as NAME=VALUE, e.g. samples=2000 scale=1/255
"""

import sys
import time

import onnx_zip
from onnx_zip import _native
from onnx_zip._keywords import arguments
from onnx_zip._progress import listener

SHARDS = 2


class Measured:
    """Workers of this process, one after the other."""

    num_shards = SHARDS

    def __init__(self, runtime):
        self.runtime = arguments("run", runtime)
        self.workers, self.walks = [], []

    def start(self, nets):
        self.nets = nets

    def shard(self, samples):
        self.workers.append(
            _native.NativeShardWorker(self.nets, samples, self.runtime, listener(False))
        )

    def ask(self, request, begins):
        if begins:
            self.walks.append([])
        spent, replies = 0.0, []
        for worker in self.workers:
            start = time.process_time()
            replies.append(worker.answer(request))
            spent += time.process_time() - start
        self.walks[-1].append((spent, len(request), max(map(len, replies))))
        return iter(replies)

    def close(self):
        self.workers.clear()


def main(data, *rest):
    """Prints one line per walk."""
    models = [given for given in rest if "=" not in given]
    options = dict(given.split("=", 1) for given in rest if "=" in given)
    runtime = {name: options[name] for name in ("runtime", "threads") if name in options}
    measured = Measured(runtime)
    start = time.process_time()
    joint = onnx_zip.merge(
        models, data=data, statistics=measured, **{"no_verify": True, "no_compare": True, **options}
    )
    whole = time.process_time() - start
    samples = joint.report["tasks"][0]["data"]["samples"]
    print(f"{samples} samples per task, {SHARDS} shards, {whole:.2f} core seconds in all")
    print(f"nets {len(measured.nets)} bytes")
    for number, walk in enumerate(measured.walks, 1):
        spent = sum(spent for spent, _, _ in walk)
        print(
            f"walk {number}: {len(walk)} requests, {spent:.2f} core seconds of workers,"
            f" {1e6 * spent / samples:.1f} us per sample of all tasks,"
            f" {sum(asked for _, asked, _ in walk)} bytes to each worker,"
            f" {sum(told for _, _, told in walk)} bytes from each"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
