"""Config against ONNX signature: completes a config, and refuses at load what NVIDIA's native backend refuses.

Runs inside Triton's Python stub. Everything raised here becomes the reason that Triton gives for not loading a model.
"""

DTYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(string)": "TYPE_STRING",
}

DEFAULT_MAX_BATCH_SIZE = 4
"""Triton's own default for a model with a dynamic batch whose config names none."""


class SignatureError(ValueError):
    """The config cannot serve this ONNX file; the message has the expected and the found."""


def check(config, session):
    """Compare inputs and outputs of the config with the ONNX file; raises SignatureError at the first difference."""
    kinds = (("input", session.get_inputs()), ("output", session.get_outputs()))
    for kind, nodes in kinds:
        found = {node.name: node for node in nodes}
        entries = config.get(kind, [])
        for entry in entries:
            if entry["name"] not in found:
                raise SignatureError(
                    f"{kind} {entry['name']!r} is not in the ONNX model: expected one of {sorted(found)}"
                )
            _check_tensor(config["max_batch_size"], kind, entry, found[entry["name"]])
        if kind == "input" and len(entries) != len(found):
            raise SignatureError(
                f"the config has {len(entries)} inputs: expected the ONNX model's {len(found)}, {sorted(found)}"
            )
    if not config.get("output"):
        raise SignatureError("the config has no output")


def complete(model_config, session):
    """Add to the config what it does not say: inputs, outputs, max_batch_size, dynamic batching."""
    config = model_config.as_dict()
    shapes = [_shape(node) for node in (*session.get_inputs(), *session.get_outputs())]
    batched = all(shape and shape[0] == -1 for shape in shapes)
    given = bool(config.get("input")) or bool(config.get("output"))
    if batched and not config["max_batch_size"] and not given:
        model_config.set_max_batch_size(DEFAULT_MAX_BATCH_SIZE)
        model_config.set_dynamic_batching()
    first = 1 if config["max_batch_size"] or (batched and not given) else 0
    for kind, nodes, add in (
        ("input", session.get_inputs(), model_config.add_input),
        ("output", session.get_outputs(), model_config.add_output),
    ):
        present = {entry["name"] for entry in config.get(kind, [])}
        for node in nodes:
            if node.name not in present and not present:
                add({"name": node.name, "data_type": _dtype(node), "dims": _shape(node)[first:]})


def refuse_unsupported(config):
    """Refuse what the native backend would do and this one cannot, rather than ignore it."""
    accelerators = config.get("optimization", {}).get("execution_accelerators", {})
    for kind in ("gpu_execution_accelerator", "cpu_execution_accelerator"):
        names = [entry["name"] for entry in accelerators.get(kind, [])]
        if names:
            raise SignatureError(
                f"optimization.execution_accelerators.{kind} {names}: expected none, the local server's backend has no "
                "accelerators; use NVIDIA's container for these"
            )
    for entry in (*config.get("input", []), *config.get("output", [])):
        if entry.get("reshape"):
            raise SignatureError(
                f"{entry['name']!r} has a reshape: expected none, the local server does not support it"
            )


def integer_parameter(config, key):
    """A whole-number parameter of the config; 0, ONNX Runtime's own default, when absent."""
    text = config.get("parameters", {}).get(key, {}).get("string_value", "0")
    try:
        return int(text)
    except ValueError as error:
        raise SignatureError(f"parameter {key} is {text!r}: expected a whole number") from error


def _check_tensor(max_batch_size, kind, entry, node):
    if entry["data_type"] != _dtype(node):
        raise SignatureError(
            f"{kind} {entry['name']!r} has data_type {entry['data_type']}: expected the ONNX model's {_dtype(node)}"
        )
    expected = _shape(node)
    full = [int(dim) for dim in entry["dims"]]
    note = ""
    if max_batch_size > 0:
        full = [-1, *full]
        note = " (a batch dimension, because max_batch_size > 0, then dims)"
    # A fixed dimension of the config may narrow a dynamic one of the model, never the other way round.
    fits = len(full) == len(expected) and all(e in (-1, f) for e, f in zip(expected, full))
    if not fits:
        raise SignatureError(f"{kind} {entry['name']!r} has shape {full}{note}: expected the ONNX model's {expected}")


def _shape(node):
    return [dim if isinstance(dim, int) else -1 for dim in node.shape]


def _dtype(node):
    if node.type not in DTYPES:
        raise SignatureError(f"{node.name!r} is {node.type}, which Triton cannot serve")
    return DTYPES[node.type]
