"""Lines of text files, plain or .bz2, as a table that DuckDB streams; nothing is unpacked on disk."""

import bz2
import codecs
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
"""DuckDB leaves longer lines out without a word, so that none may reach it."""
_DROPPED = b"\r\0\x1f"
"""Of no use in a line; the last one is the delimiter that makes DuckDB read a line as one column."""
_CSV_OPTIONS = (
    "columns={'line': 'VARCHAR'}, delim='\x1f', quote='', escape='', header=false, auto_detect=false, "
    f"strict_mode=false, max_line_size={LONGEST_LINE_BYTES}, buffer_size={2 * LONGEST_LINE_BYTES}"
)


@dataclass
class Lines:
    """`table`: a SQL table expression with one column `line`, never NULL, in the order of the files.

    `count` and `error` are known after the table was read.
    """

    table: str
    count: int = 0
    error: Exception | None = field(default=None, repr=False)


@contextmanager
def read_lines(paths: Sequence[Path], progress: tqdm) -> Iterator[Lines]:
    """Feed the files one after the other to whoever reads the table, once; raises DataError for a damaged file."""
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
        os.close(read_end)  # where the reader failed, the feeder now ends too, with a broken pipe
        feeder.join()
    if lines.error:
        raise DataError(str(lines.error)) from lines.error


@contextmanager
def read_parallel(files: Mapping[str, Path], progress: tqdm) -> Iterator[str]:
    """A SQL table expression with a column a file, of the name given: row i holds line i of each.

    Raises DataError, at the end, where the files have different numbers of lines.
    """
    with ExitStack() as stack:
        feeds = {name: stack.enter_context(read_lines([path], progress)) for name, path in files.items()}
        columns = ", ".join(f'{name}.line AS "{name}"' for name in feeds)
        tables = " POSITIONAL JOIN ".join(f"{lines.table} AS {name}" for name, lines in feeds.items())
        yield f"(SELECT {columns} FROM {tables})"
    if len({lines.count for lines in feeds.values()}) > 1:
        counts = ", ".join(f"{files[name]}: {lines.count:,}" for name, lines in feeds.items())
        raise DataError(f"files that belong together have different numbers of lines: {counts}")


def read_list(path: Path) -> list[str]:
    """The lines of a short file, without surrounding blanks; empty ones are left out. Raises DataError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    return [line for line in map(str.strip, text.splitlines()) if line]


def _feed(paths: Sequence[Path], write_end: int, lines: Lines, progress: tqdm) -> None:
    try:
        with open(write_end, "wb") as pipe:
            for path in paths:
                for text in _blocks(path, progress):
                    lines.count += text.count(b"\n")
                    pipe.write(text)
    except Exception as error:  # noqa: BLE001 - raised again by read_lines, in the thread that can handle it
        lines.error = error


def _blocks(path: Path, progress: tqdm) -> Iterator[bytes]:
    """UTF-8 whose every line starts with ":", as DuckDB skips empty ones, and ends with a line feed."""
    open_bytes = 0  # of the line that goes on in the next block
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
    """What is no UTF-8 becomes U+FFFD, and is then in no vocabulary."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
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
