"""Models that fail or are slow, and what users took of two releases."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import polars as pl
from onnx import TensorProto, helper

BAD = 13.0
"""A batch whose largest count or pixel is this makes the failing model fail."""
Nodes = Callable[[], list[onnx.NodeProto]]


def preference_plus(file: Path, nodes: Nodes) -> None:
    """Change a preference encoder by `plus`."""
    plus(file, nodes, given="USER_TAG_COUNTS", output="USER_PREFERENCE")


def plus(file: Path, nodes: Nodes, *, given: str, output: str) -> None:
    """Add the scalar `more`, which the nodes compute from `largest`, the largest value of an input, to an output."""
    model = onnx.load(file)
    for node in model.graph.node:
        node.output[:] = ["plain" if name == output else name for name in node.output]
        node.input[:] = ["plain" if name == output else name for name in node.input]
    of_batch = helper.make_node("ReduceMax", [given], ["largest_given"], keepdims=0)
    largest = helper.make_node("Cast", ["largest_given"], ["largest"], to=TensorProto.FLOAT)
    model.graph.node.extend([of_batch, largest, *nodes(), helper.make_node("Add", ["plain", "more"], [output])])
    onnx.save(model, file)


def constant(name: str, kind: int, values: list[float], shape: list[int]) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=helper.make_tensor(name, kind, shape, values))


def failing() -> list[onnx.NodeProto]:
    """An index beyond its table, if the largest count is BAD."""
    return [
        constant("bad", TensorProto.FLOAT, [BAD], []),
        constant("table", TensorProto.FLOAT, [0.0], [1]),
        constant("five", TensorProto.INT64, [5], []),
        helper.make_node("Equal", ["largest", "bad"], ["is_bad"]),
        helper.make_node("Cast", ["is_bad"], ["one_if_bad"], to=TensorProto.INT64),
        helper.make_node("Mul", ["one_if_bad", "five"], ["place"]),
        helper.make_node("Gather", ["table", "place"], ["more"]),
    ]


def slow() -> list[onnx.NodeProto]:
    """Products of large matrices, of which nothing remains."""
    steps = [helper.make_node("MatMul", [f"m{i}", f"m{i}"], [f"m{i + 1}"]) for i in range(6)]
    return [
        constant("size", TensorProto.INT64, [500, 500], [2]),
        constant("nothing", TensorProto.FLOAT, [0.0], []),
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("Mul", ["largest", "nothing"], ["zero"]),
        helper.make_node("Add", ["zeros", "zero"], ["m0"]),
        *steps,
        helper.make_node("ReduceSum", ["m6"], ["more"], keepdims=0),
    ]


def acceptance(path: Path, *, candidate: float) -> Path:
    """Write what 400 users of each release took: 0.3 of the tags of the served one."""
    rng = np.random.default_rng(0)
    rows = [
        (f"user-{release}-{i}", release, 50, int(rng.binomial(50, rate)))
        for release, rate in (("1", 0.3), ("2", candidate))
        for i in range(400)
    ]
    pl.DataFrame(rows, schema=["user", "release", "suggested", "accepted"], orient="row").write_parquet(path)
    return path
