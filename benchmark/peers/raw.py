"""ONNX Runtime in one process, without a server: `python -m benchmark.peers.raw TAGS`, then a line for each load.

A line is JSON: {"streams": calling threads, "batch": pictures per call, "threads", "spin", "seconds"}. The answer is a
line with the load; each picture has the latency of its call.
"""

import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial

import numpy as np

from benchmark.peers.answers import Answer
from benchmark.peers.onnx_tags import OnnxTags
from benchmark.peers.tuning import repository
from measure.callers import Caller, Load, closed_load
from measure.requests import Arrays, new_arrays


def main() -> None:
    """Run one load per input line, until the input ends."""
    tags = int(sys.argv[1])
    opened: dict[tuple[int, int, bool], list[OnnxTags]] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        settings = (asked["streams"], asked["threads"], asked["spin"])
        if settings not in opened:
            opened.clear()
            opened[settings] = [
                OnnxTags(repository(), threads=asked["threads"], spin=asked["spin"]) for _ in range(asked["streams"])
            ]
        load = _load(opened[settings], asked["batch"], tags, asked["seconds"])
        print(json.dumps(asdict(load)), flush=True)


def _load(models: list[OnnxTags], batch: int, tags: int, seconds: float) -> Load:
    callers = [Caller(partial(_ask, model), batches(batch, tags)) for model in models]
    load = closed_load(callers, seconds=seconds)
    return replace(load, latencies_ms=np.repeat(load.latencies_ms, batch).tolist())


def _ask(model: OnnxTags, arrays: Arrays) -> Answer:
    return model.answer(*arrays)[0]


def batches(size: int, tags: int) -> Iterator[Arrays]:
    """Yield batches of images uint8 [size, 224, 224, 3] and histories float32 [size, N]."""
    stream = new_arrays(tags)
    while True:
        images, histories = zip(*itertools.islice(stream, size), strict=True)
        yield np.concatenate(images), np.concatenate(histories)


if __name__ == "__main__":
    main()
