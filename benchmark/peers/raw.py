"""ONNX Runtime in one process, without a server: `python -m benchmark.peers.raw TAGS`, then a line for each load.

JSON: {"streams": threads that call it, "batch": pictures a call, "threads", "spin", "seconds"}. It answers with a line,
the load, whose latencies are those of the calls, one for each picture.
"""

import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

from benchmark.peers.load import Load, Picture, closed_load, new_pictures
from benchmark.peers.onnx_tags import OnnxTags
from benchmark.peers.tuning import repository


def main() -> None:
    """Until its input ends."""
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
    asks = [lambda *arrays, model=model: model.answer(*arrays)[0] for model in models]
    load = closed_load(asks, [_batches(batch, tags) for _ in models], seconds)
    return Load(np.repeat(load.latencies_ms, batch).tolist(), load.seconds, load.cpu_s)


def _batches(size: int, tags: int) -> Iterator[Picture]:
    """Images uint8 [size, 224, 224, 3], histories float32 [size, N]."""
    stream = new_pictures(tags)
    while True:
        # Each copied before the next changes it.
        pictures = [(image.copy(), history) for image, history in itertools.islice(stream, size)]
        images, histories = zip(*pictures, strict=True)
        yield np.concatenate(images), np.concatenate(histories)


if __name__ == "__main__":
    main()
