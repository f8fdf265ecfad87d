"""Tiny ONNX models and their configs."""

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

Shape = Sequence[int | str]


def tensor(name: str, shape: Shape, element_type: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element_type, shape)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def double(shape: Shape = ("batch", 3)) -> onnx.ModelProto:
    """Y = X + X."""
    return model([helper.make_node("Add", ["X", "X"], ["Y"])], [tensor("X", shape)], [tensor("Y", shape)])


def config(*, dims: str = "3", max_batch_size: int = 8, more: str = "", output_dims: str | None = None) -> str:
    """The config.pbtxt of `double`."""
    return f"""
        backend: "onnxruntime"
        max_batch_size: {max_batch_size}
        input {{ name: "X" data_type: TYPE_FP32 dims: [ {dims} ] }}
        output {{ name: "Y" data_type: TYPE_FP32 dims: [ {output_dims or dims} ] }}
        instance_group {{ count: 1 kind: KIND_CPU }}
        {more}
    """


def write_model(
    repository: Path, name: str, onnx_model: onnx.ModelProto | bytes | None, text: str, *, file: str = "model.onnx"
) -> None:
    version = repository / name / "1"
    version.mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(text)
    if onnx_model is not None:
        content = onnx_model if isinstance(onnx_model, bytes) else onnx_model.SerializeToString()
        (version / file).write_bytes(content)
