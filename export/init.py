"""A new model repository for another vocabulary: the configs of one that is there, with its tuning and comments."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from altreco_client import contract
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from export.config import (
    CONFIG_FILE,
    VOCABULARY_TENSORS,
    check_repository,
    config_files,
    ensemble_config,
    parse_config,
    tensorrt_parameters,
    vocabulary_size,
)
from export.errors import ConfigError, ExportError, VocabularyError
from export.repository import label_lines, labels_file
from training.data.folder import is_free, renamed

FIRST_VERSION = 1


def init_repository(directory: Path, vocabulary: Path, *, like: Path) -> None:
    """Make `directory` a model repository without a release, for the tags of a file (UTF-8, one a line).

    It has the configs of `like`, whose N alone is changed, variants included. Raises ConfigError for configs in which
    that cannot be done, VocabularyError, and ExportError for a directory that is not empty or cannot be written; then
    nothing is there.
    """
    tags = read_tags(vocabulary)
    check_repository(like)
    old = vocabulary_size(like)
    sources = [path for model in contract.COMPONENTS for path in config_files(like, model.name)]
    texts = {path.relative_to(like): with_vocabulary(path, old, len(tags)) for path in sources}
    with _whole_or_absent(directory) as partial:
        for name, text in texts.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_text(text, encoding="utf-8")
        labels_file(partial).write_text(label_lines(tags), encoding="utf-8")
        ensemble = partial / contract.TAG_RECOMMENDER.name
        ensemble.mkdir()
        (ensemble / CONFIG_FILE).write_text(ensemble_config(partial, FIRST_VERSION), encoding="utf-8")


def read_tags(path: Path) -> list[str]:
    """The tags of a file with one a line; raises VocabularyError with the line of one that is empty or repeated."""
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise VocabularyError(f"cannot read the vocabulary {path}: {error}; expected UTF-8, one tag a line") from error
    first: dict[str, int] = {}
    for number, tag in enumerate(lines, start=1):
        if not tag.strip():
            raise VocabularyError(f"{path}, line {number}: expected a tag, found an empty line")
        if first.setdefault(tag, number) != number:
            raise VocabularyError(
                f"{path}, line {number}: expected each tag once, found {tag!r} as in line {first[tag]}"
            )
    return lines


def with_vocabulary(path: Path, old: int, new: int) -> str:
    """The text of a config with `new` in place of `old` where it means the size of the vocabulary, and nowhere else.

    Protobuf tells which places these are, and proves the result; raises ConfigError where it cannot be had so.
    """
    wanted = _resized(parse_config(path), new)
    text = path.read_text(encoding="utf-8")
    for place in reversed([*re.finditer(rf"(?<!\d){old}(?!\d)", text)]):
        candidate = f"{text[: place.start()]}{new}{text[place.end() :]}"
        with suppress(text_format.ParseError):
            changed = _parsed(candidate)
            # A comment changes no field, and another number than N a field that keeps its value in `wanted`.
            if changed != _parsed(text) and _resized(changed, new) == wanted:
                text = candidate
    if _parsed(text) != wanted:
        raise ConfigError(
            f"{path}: dims of the vocabulary: expected {old} as a plain number everywhere, found another notation; "
            "write it so, or copy the file and set the dims by hand"
        )
    return text


def _parsed(text: str) -> pb.ModelConfig:
    return text_format.Parse(text, pb.ModelConfig())


def _resized(config: pb.ModelConfig, tags: int) -> pb.ModelConfig:
    """A copy with N = `tags`: of the tensors, their warmup, and their TensorRT profiles."""
    resized = pb.ModelConfig()
    resized.CopyFrom(config)
    warmup = [(name, value) for sample in resized.model_warmup for name, value in sample.inputs.items()]
    for name, entry in (*((entry.name, entry) for entry in (*resized.input, *resized.output)), *warmup):
        if name in VOCABULARY_TENSORS:
            entry.dims[:] = [tags]
    for parameters in tensorrt_parameters(resized):
        for key in [key for key in parameters if key.startswith("trt_profile_")]:
            names = "|".join(VOCABULARY_TENSORS)
            parameters[key] = re.sub(rf"\b({names}):(\d+)x\d+", rf"\1:\2x{tags}", parameters[key])
    return resized


@contextmanager
def _whole_or_absent(directory: Path) -> Iterator[Path]:
    """A new folder beside `directory` that takes its name when everything is in it, and is removed otherwise."""
    directory = directory.resolve()
    partial = directory.with_name(f".{directory.name}.init.partial")
    try:
        if not is_free(directory):
            raise ExportError(f"{directory} exists: expected a new or an empty directory; choose another, or remove it")
        with renamed(partial, directory):
            yield partial
    except OSError as error:
        raise ExportError(f"cannot write {directory}: {error}; nothing was made") from error
