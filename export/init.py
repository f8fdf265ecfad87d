"""A new model repository for another vocabulary, with the configs, tuning and comments of an existing one."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from altreco_client import Vocabulary, contract
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
    """Make a model repository without a release for the tags in a file (UTF-8, one tag per line).

    The configs and their variants are copied from `like`; only N changes. Raises ConfigError if a config cannot be
    changed so, VocabularyError, and ExportError if `directory` is not empty or cannot be written. On an error nothing
    is written.
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
    """Read a file with one tag per line; a byte-order mark before the first is none of its characters.

    Raises VocabularyError with the number of a line that is no tag or a repeated one.
    """
    try:
        lines = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise VocabularyError(
            f"cannot read the vocabulary {path}: {error}; expected UTF-8, one tag per line"
        ) from error
    first: dict[str, int] = {}
    for number, tag in enumerate(lines, start=1):
        if not tag.strip():
            raise VocabularyError(f"{path}, line {number}: expected a tag, found an empty line")
        if first.setdefault(tag, number) != number:
            raise VocabularyError(
                f"{path}, line {number}: expected each tag once, found {tag!r} as in line {first[tag]}"
            )
    try:
        return list(Vocabulary(tuple(lines)).tags)
    except ValueError as error:
        raise VocabularyError(f"{path}, line {error}") from error


def with_vocabulary(path: Path, old: int, new: int) -> str:
    """Replace `old` by `new` in the text of a config wherever it is the size of the vocabulary, and nowhere else.

    The parsed protobuf decides which places these are and verifies the result. Raises ConfigError if that fails.
    """
    wanted = _resized(parse_config(path), new)
    text = path.read_text(encoding="utf-8")
    for place in reversed([*re.finditer(rf"(?<!\d){old}(?!\d)", text)]):
        candidate = f"{text[: place.start()]}{new}{text[place.end() :]}"
        with suppress(text_format.ParseError):
            changed = _parsed(candidate)
            # In a comment the number changes no field. Where it is not N, it changes a field that `wanted` keeps.
            if changed != _parsed(text) and _resized(changed, new) == wanted:
                text = candidate
    if _parsed(text) != wanted:
        raise ConfigError(
            f"{path}: dims of the vocabulary: expected {old} as a plain number everywhere, found another notation; "
            "write it as a plain number, or copy the file and set the dims by hand"
        )
    return text


def _parsed(text: str) -> pb.ModelConfig:
    return text_format.Parse(text, pb.ModelConfig())


def _resized(config: pb.ModelConfig, tags: int) -> pb.ModelConfig:
    """Copy the config with N = `tags` in tensors, warmup and TensorRT profiles."""
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
    """Yield a temporary folder that is renamed to `directory` on success and removed on an error."""
    directory = directory.resolve()
    partial = directory.with_name(f".{directory.name}.init.partial")
    try:
        if not is_free(directory):
            raise ExportError(f"{directory} exists: expected a new or an empty directory; choose another, or remove it")
        with renamed(partial, directory):
            yield partial
    except OSError as error:
        raise ExportError(f"cannot write {directory}: {error}; nothing was made") from error
