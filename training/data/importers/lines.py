"""Lines of text files, plain or .bz2, as a table that DuckDB streams, without unpacking to disk."""

import bz2
import codecs
import io
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from training.errors import DataError

BLOCK_BYTES = 1 << 20
LONGEST_LINE_BYTES = 4 << 20
"""DuckDB silently drops longer lines, so they must not reach it."""
_DROPPED = b"\0\x1f"
"""Characters removed from lines; \\x1f is the delimiter, so that DuckDB reads a line as one column."""
_CSV_OPTIONS = (
    "columns={'line': 'VARCHAR'}, delim='\x1f', quote='', escape='', header=false, auto_detect=false, "
    f"strict_mode=false, max_line_size={LONGEST_LINE_BYTES}, buffer_size={2 * LONGEST_LINE_BYTES}"
)


@dataclass
class Lines:
    """`table`: a SQL table expression with one column `line`, never NULL, in the order of the files.

    `count` and `error` are set once the table has been read.
    """

    table: str
    count: int = 0
    error: Exception | None = field(default=None, repr=False)


@contextmanager
def read_lines(paths: Sequence[Path], progress: tqdm) -> Iterator[Lines]:
    """Feed the files in turn to the reader of the table, which is read once; raises DataError for a damaged file."""
    for path in paths:
        if not path.is_file():
            raise DataError(f"no file at {path}")
    read_end, write_end = os.pipe()
    lines = Lines(f"(SELECT substr(line, 2) AS line FROM read_csv('/dev/fd/{read_end}', {_CSV_OPTIONS}))")
    feeder = threading.Thread(target=_feed, args=(paths, write_end, lines, progress))
    feeder.start()
    try:
        yield lines
    finally:
        os.close(read_end)  # if the reader failed, the broken pipe ends the feeder
        feeder.join()
    if lines.error:
        raise DataError(str(lines.error)) from lines.error


@contextmanager
def read_parallel(files: Mapping[str, Path], progress: tqdm) -> Iterator[str]:
    """Yield a SQL table expression with a named column for each file; row i has line i of each.

    Raises DataError at the end if the files have different numbers of lines.
    """
    with ExitStack() as stack:
        feeds = {name: stack.enter_context(read_lines([path], progress)) for name, path in files.items()}
        columns = ", ".join(f'{name}.line AS "{name}"' for name in feeds)
        tables = " POSITIONAL JOIN ".join(f"{lines.table} AS {name}" for name, lines in feeds.items())
        yield f"(SELECT {columns} FROM {tables})"
    if len({lines.count for lines in feeds.values()}) > 1:
        counts = ", ".join(f"{files[name]}: {lines.count:,}" for name, lines in feeds.items())
        raise DataError(f"parallel files have different numbers of lines: {counts}")


def read_list(path: Path) -> list[str]:
    """Read the lines of a short file, stripped and without empty ones; raises DataError.

    Only line ends separate lines, as in longer files, and not the other characters at which `splitlines` splits.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    return [line for line in map(str.strip, text.split("\n")) if line]


def _feed(paths: Sequence[Path], write_end: int, lines: Lines, progress: tqdm) -> None:
    try:
        with open(write_end, "wb") as pipe:
            for path in paths:
                for text in _blocks(path, progress):
                    lines.count += text.count(b"\n")
                    pipe.write(text)
    except Exception as error:  # noqa: BLE001 - read_lines raises it again in the calling thread
        lines.error = error


def _blocks(path: Path, progress: tqdm) -> Iterator[bytes]:
    """Yield UTF-8 blocks; each line starts with ":", because DuckDB skips empty lines, and ends with a line feed."""
    open_bytes = 0  # size so far of a line that continues in the next block
    for text in _utf8(path, progress):
        marked = (b"" if open_bytes else b":") + text.replace(b"\n", b"\n:")
        marked = marked[:-1] if text.endswith(b"\n") else marked
        first, *others = marked.split(b"\n", 1)
        if open_bytes + len(first) >= LONGEST_LINE_BYTES:
            raise DataError(f"{path} has a line of more than {LONGEST_LINE_BYTES:,} bytes: expected a text file")
        open_bytes = len(marked) - marked.rfind(b"\n") - 1 if others else open_bytes + len(first)
        yield marked
    if open_bytes:
        yield b"\n"


def _utf8(path: Path, progress: tqdm) -> Iterator[bytes]:
    """Yield UTF-8; other bytes become U+FFFD, which is in no vocabulary. Each line ends with a line feed alone."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")("replace"), translate=True)
    for block in _bytes(path, progress):
        if text := decoder.decode(block.translate(None, _DROPPED)):
            yield text.encode()
    if rest := decoder.decode(b"", final=True):
        yield rest.encode()


def _bytes(path: Path, progress: tqdm) -> Iterator[bytes]:
    try:
        with path.open("rb") as raw, bz2.open(raw) if path.suffix == ".bz2" else raw as stream:
            done = 0
            while block := stream.read(BLOCK_BYTES):
                progress.update(raw.tell() - done)
                done = raw.tell()
                yield block
    except (OSError, EOFError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
