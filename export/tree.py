"""What the model repository of a release may hold. Everything else is refused by name.

Triton runs more than weights: it loads a library that lies beside a model, or that a config names, into its own
process. So a repository has these files and folders, none of them a link, and configs have the fields below:

    <component>/config.pbtxt, <component>/configs/NAME.pbtxt
    <component>/<version>/model.onnx     only where a release of that number has a release.json
    classifier/tags.txt
    tag_recommender/config.pbtxt
    tag_recommender/<version>/release.json, golden.npz and probe/
    release.sig                          a signature, see `export.signature`

What commands leave in hidden folders, where Triton does not look, is not looked into.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from altreco_client import contract
from altreco_client.text import printable
from google.protobuf.message import Message
from tritonclient.grpc import model_config_pb2 as pb

from export.errors import ConfigError, ReleaseError
from export.golden import GOLDEN_FILE
from export.manifest import MANIFEST_FILE, MODEL_FILE

SIGNATURE_FILE = "release.sig"
PROBE_FOLDER = "probe"
ENSEMBLE = contract.TAG_RECOMMENDER.name
VERSION = re.compile("[1-9][0-9]{0,17}")
"""Name of a version's folder. Triton also takes 01 for version 1."""
SHOWN = 5

_V = f"(?:{VERSION.pattern})"
_COMPONENT = f"(?:{'|'.join(model.name for model in contract.COMPONENTS)})"
HIDDEN = re.compile(rf"{ENSEMBLE}/(\.staging|{_V}/\.{PROBE_FOLDER})|{_COMPONENT}/\.{_V}\.(withdrawn|gone)")
FOLDERS = re.compile(rf"{_COMPONENT}(/configs|/{_V})?|{ENSEMBLE}(/{_V}(/{PROBE_FOLDER})?)?")
FILES = re.compile(
    rf"{_COMPONENT}/(config\.pbtxt|configs/[\w-]+\.pbtxt|{_V}/{re.escape(MODEL_FILE)})"
    rf"|{contract.CLASSIFIER.name}/{re.escape(contract.LABELS_FILE)}"
    rf"|{ENSEMBLE}/(config\.pbtxt|\.config\.pbtxt\.partial|\.lock)"
    rf"|{ENSEMBLE}/{_V}/({re.escape(MANIFEST_FILE)}|{re.escape(GOLDEN_FILE)}"
    rf"|{PROBE_FOLDER}/(allowed|[0-9]+-[0-9]+\.(request|tags)))"
    rf"|{re.escape(SIGNATURE_FILE)}",
    re.ASCII,
)

_ACCELERATOR = "optimization.execution_accelerators.gpu_execution_accelerator"
_PLAIN = """
    name backend max_batch_size version_policy.all response_cache.enable
    input.name input.data_type input.dims output.name output.data_type output.dims
    dynamic_batching dynamic_batching.preferred_batch_size dynamic_batching.max_queue_delay_microseconds
    instance_group.count instance_group.kind instance_group.gpus optimization.graph.level
    model_warmup.name model_warmup.batch_size model_warmup.count model_warmup.inputs.data_type model_warmup.inputs.dims
    model_warmup.inputs.zero_data model_warmup.inputs.random_data
"""
_NUMBERS = """
    intra_op_thread_count inter_op_thread_count execution_mode
    cudnn_conv_algo_search arena_extend_strategy gpu_mem_limit
"""
_ACCELERATORS = """
    use_tf32 cudnn_conv_algo_search arena_extend_strategy gpu_mem_limit
    trt_engine_cache_enable trt_profile_min_shapes trt_profile_opt_shapes trt_profile_max_shapes
"""
FIELDS: Mapping[str, str] = {
    **dict.fromkeys(_PLAIN.split(), ".*"),
    **{f"parameters[{name}]": "-?[0-9]{1,18}" for name in _NUMBERS.split()},
    **{f"{_ACCELERATOR}.parameters[{name}]": ".*" for name in _ACCELERATORS.split()},
    "output.label_filename": re.escape(contract.LABELS_FILE),
    f"{_ACCELERATOR}.name": "cuda|tensorrt",
    # TensorRT runs what it finds there, so it is never inside a repository.
    f"{_ACCELERATOR}.parameters[trt_engine_cache_path]": "/var/cache/altreco/[a-z_/-]+",
}
"""The fields of a component's config, and a pattern for the value of each. Maps called `parameters` count by key."""


def check_tree(repository: Path) -> None:
    """Raise ReleaseError if the repository holds anything that `export` does not write. Opens no file."""
    if wrong := foreign(repository):
        raise ReleaseError(f"{repository} holds what no release has: {_listed(wrong)}. Remove it{_advice(wrong)}")


def check_links(repository: Path) -> None:
    """Raise ReleaseError for a link in the repository: a command would write to where it leads."""
    links = [name for name, entry in _walk(repository) if entry.is_symlink()]
    if links:
        raise ReleaseError(f"{repository} holds links, which no command follows: {_listed(links)}. Nothing was changed")


def foreign(repository: Path) -> list[str]:
    """Paths from the repository's root that no release has. Raises ReleaseError if it cannot be read."""
    found = dict(_walk(repository))
    released = {name.split("/")[1] for name in found if name.endswith(f"/{MANIFEST_FILE}")}
    return [name for name, entry in found.items() if not _belongs(name, entry, released)]


def check_fields(path: Path, config: pb.ModelConfig) -> None:
    """Raise ConfigError for a field or value of a component's config that is not on the list: it may name a library."""
    wrong = [
        name if name not in FIELDS else f"{name} {str(value)[:80]!r}"
        for name, value in _fields(config)
        if name not in FIELDS or not re.fullmatch(FIELDS[name], str(value), re.DOTALL)
    ]
    if wrong:
        raise ConfigError(
            f"{path}: expected none but the fields and values of FIELDS in export/tree.py, found {_listed(wrong)}"
        )


def _walk(folder: Path, above: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything in a repository by its path, without following links; hidden folders are not entered."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise ReleaseError(f"cannot read {folder}: {error.strerror}: expected a Triton model repository") from error
    for entry in entries:
        name = f"{above}{entry.name}"
        yield name, entry
        if entry.is_dir(follow_symlinks=False) and FOLDERS.fullmatch(name):
            yield from _walk(Path(entry.path), f"{name}/")


def _belongs(name: str, entry: "os.DirEntry[str]", released: set[str]) -> bool:
    if entry.is_symlink():
        return False
    parts = name.split("/")
    if len(parts) > 1 and VERSION.fullmatch(parts[1]) and parts[1] not in released:
        return False
    if entry.is_dir(follow_symlinks=False):
        return bool(FOLDERS.fullmatch(name) or HIDDEN.fullmatch(name))
    return entry.is_file(follow_symlinks=False) and bool(FILES.fullmatch(name))


def _advice(wrong: list[str]) -> str:
    if any("/" not in name for name in wrong):
        return "; if the repository is the root of a volume, use a folder below it (subPath in Kubernetes)"
    return ", or restore the release"


def _fields(message: Message, above: str = "") -> Iterator[tuple[str, Any]]:
    """The fields that are set, dotted, with their values; a message only if nothing inside it is set."""
    for field, value in message.ListFields():
        name = f"{above}{field.name}"
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        if is_map and field.name == "parameters":
            yield from ((f"{name}[{key}]", getattr(entry, "string_value", entry)) for key, entry in value.items())
        elif field.message_type is None:
            yield name, value
        else:
            entries = value.values() if is_map else [value] if isinstance(value, Message) else value
            for each in entries:
                inside = [*_fields(each, f"{name}.")] if isinstance(each, Message) else []
                yield from inside or [(name, each)]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(printable(name)[:200] for name in names[:SHOWN]) + more
