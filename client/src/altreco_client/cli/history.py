"""Show and change a user's history in a JSON file, or move all users' counts between a database and a Parquet file.

    altreco history add user.json sea beach
    altreco history export --store sqlite:///histories.db histories.parquet

No server is asked. If two commands change a file at the same time, the later one wins.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import checked_count, checked_tag
from ..errors import AltrecoError, InvalidHistory, InvalidRequest
from ..history import TagHistory
from ..text import printable, shown

if TYPE_CHECKING:
    from ..histories import Histories

HISTORY_HELP = (
    "past tags: TAG:COUNT,... such as sea:3,beach, or FILE.json or @FILE written by `altreco history`; a tag with a "
    "colon needs its count, as in 16:9:1, and a tag with a comma needs double quotes"
)
"""Help text of an argument for `load_history`."""

COLUMNS = ("user", "tag", "count")
"""Columns of a Parquet file of histories: two texts and a number."""


def load_history(argument: str) -> Mapping[str, float]:
    """Read a history from a command line argument; raises InvalidHistory."""
    if argument.startswith("@"):
        return read_history(Path(argument[1:]))
    return read_history(Path(argument)) if argument.endswith(".json") else parse_history(argument)


def parse_history(text: str) -> dict[str, float]:
    """Parse `sea:3,beach` to {"sea": 3, "beach": 1}. The counts of a repeated tag are added. Raises InvalidHistory.

    What follows an entry's last colon is its count: as sea:3 is no tag, 16:9 is none either, and 16:9:1 is one. Double
    quotes are as in CSV, for a tag with a comma: "rock, paper":2.
    """
    history: dict[str, float] = {}
    for entry in filter(None, map(str.strip, _entries(text))):
        tag, _, count = map(str.strip, (entry if ":" in entry else f"{entry}:1").rpartition(":"))
        try:
            number = int(count) if count.isdecimal() else float(count)
        except ValueError as error:
            raise InvalidHistory(
                f"history entry {shown(entry)}: expected TAG:COUNT, such as sea:3, or 16:9:1 for a tag with a colon"
            ) from error
        tag = checked_tag(tag)
        history[tag] = checked_count(tag, history.get(tag, 0) + checked_count(tag, number))
    return history


def _entries(text: str) -> list[str]:
    try:
        return next(csv.reader([text], skipinitialspace=True), [])
    except csv.Error as error:
        raise InvalidHistory(f"history {shown(text)}: expected TAG:COUNT,... on one line") from error


def read_history(path: Path) -> TagHistory:
    """Read a file of `write_history`; raises InvalidHistory."""
    try:
        return TagHistory.from_json(path.read_bytes())
    except FileNotFoundError as error:
        raise InvalidHistory(f"no history at {path}; `altreco history add {path} TAG` starts one") from error
    except OSError as error:
        raise InvalidHistory(f"cannot read the history {path}: {error.strerror}") from error
    except InvalidHistory as error:
        raise InvalidHistory(f"{path}: {error}") from error


def write_history(path: Path, history: TagHistory) -> None:
    """Write a new file, then rename it, so that an error leaves the old one. Raises InvalidRequest."""
    with _replacing(path) as partial, partial.open("w", encoding="ascii") as file:
        file.write(history.to_json() + "\n")
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A new file to write, which replaces the old one unless there is an error. Raises InvalidRequest."""
    path = Path(os.path.realpath(path))  # a link stays, and the file that it points to changes
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        if path.exists():
            shutil.copymode(path, partial)
        partial.replace(path)
    except AltrecoError:  # some of them are an OSError too
        raise
    except OSError as error:
        raise InvalidRequest(f"cannot write the history {path}: {error.strerror or error}; it is unchanged") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `history` command."""
    parser = commands.add_parser(
        "history",
        help="show and change a user's history in a JSON file, import and export a database",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    file = argparse.ArgumentParser(add_help=False)
    file.add_argument("file", type=Path, metavar="FILE", help="the user's history, JSON")

    show = actions.add_parser("show", parents=[file], help="print the counts and tags, most frequent first")
    show.add_argument("--json", action="store_true", help='print {"tags": [{"name": ..., "count": ...}, ...]}')
    show.set_defaults(run_history=_show)

    add = actions.add_parser("add", parents=[file], help="add a picture's tags; a missing file starts a new history")
    add.add_argument("tags", nargs="+", metavar="TAG", help="a tag of the picture")
    add.set_defaults(run_history=_add)

    merge = actions.add_parser("merge", parents=[file], help="add another history's counts")
    merge.add_argument("other", metavar="HISTORY", help=HISTORY_HELP)
    merge.set_defaults(run_history=_merge)

    subtract = actions.add_parser(
        "subtract", parents=[file], help="remove a deleted picture's tags, or a history's counts"
    )
    subtract.add_argument("tags", nargs="*", metavar="TAG", help="a tag of the deleted picture")
    subtract.add_argument("--history", metavar="HISTORY", help=HISTORY_HELP)
    subtract.set_defaults(run_history=_subtract)

    prune = actions.add_parser("prune", parents=[file], help="keep only the frequent tags")
    prune.add_argument("--keep", type=int, metavar="N", help="keep the N most frequent tags")
    prune.add_argument("--min-count", type=float, metavar="C", help="keep tags with a count of C or more")
    prune.set_defaults(run_history=_prune)

    database = argparse.ArgumentParser(add_help=False)
    database.add_argument("--store", required=True, metavar="URL", help="sqlite:///FILE or postgresql://USER@HOST/NAME")
    database.add_argument("file", type=Path, metavar="FILE.parquet", help=f"columns {', '.join(COLUMNS)}")
    imports = actions.add_parser("import", parents=[database], help="set users' counts in a database from a file")
    imports.set_defaults(run_history=_import)
    exports = actions.add_parser("export", parents=[database], help="write all users' counts in a database to a file")
    exports.set_defaults(run_history=_export)


def run(arguments: argparse.Namespace) -> None:
    """Run the parsed `history` command. It raises InvalidRequest and leaves the file unchanged if it fails."""
    arguments.run_history(arguments)


def _show(arguments: argparse.Namespace) -> None:
    history = read_history(arguments.file)
    tags = history.top(len(history))
    if arguments.json:
        print(json.dumps({"tags": [{"name": tag, "count": history[tag]} for tag in tags]}))
        return
    width = max((len(str(count)) for count in history.values()), default=0)
    for tag in tags:
        print(f"{history[tag]:>{width}}  {printable(tag)}")


def _add(arguments: argparse.Namespace) -> None:
    history = read_history(arguments.file) if os.path.exists(arguments.file) else TagHistory()
    _write(arguments.file, history.add(arguments.tags))


def _merge(arguments: argparse.Namespace) -> None:
    _write(arguments.file, read_history(arguments.file).merge(load_history(arguments.other)))


def _subtract(arguments: argparse.Namespace) -> None:
    if bool(arguments.tags) == bool(arguments.history):
        raise InvalidRequest("expected either a picture's tags or --history HISTORY")
    other = load_history(arguments.history) if arguments.history else arguments.tags
    _write(arguments.file, read_history(arguments.file).subtract(other))


def _prune(arguments: argparse.Namespace) -> None:
    _write(arguments.file, read_history(arguments.file).prune(keep=arguments.keep, min_count=arguments.min_count))


def _import(arguments: argparse.Namespace) -> None:
    with _histories(arguments.store) as store:
        try:
            number = store.set_counts(_read_parquet(arguments.file))
        except InvalidRequest as error:
            raise InvalidHistory(f"{arguments.file}: {error}; correct it, and import the file again") from error
    print(f"{printable(str(arguments.file))}: {number} counts")


def _export(arguments: argparse.Namespace) -> None:
    with _histories(arguments.store, create=False) as store:
        number = _write_parquet(arguments.file, store.counts())
    print(f"{printable(str(arguments.file))}: {number} counts")


def _histories(url: str, *, create: bool = True) -> Histories:
    """Open a database; raises InvalidRequest if a package is missing."""
    try:
        import pyarrow.parquet  # noqa: F401, PLC0415 - optional

        from ..histories import Histories  # noqa: PLC0415 - optional
    except ImportError as error:
        raise InvalidRequest("--store needs: pip install 'altreco-client[histories]'") from error
    return Histories(url, create=create)


def _read_parquet(path: Path) -> Iterator[tuple[Any, Any, Any]]:
    """Read user, tag and count of each row; raises InvalidHistory for another file."""
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    try:
        with parquet.ParquetFile(path) as file:
            if missing := [name for name in COLUMNS if name not in file.schema_arrow.names]:
                raise InvalidHistory(f"no column {', '.join(missing)}: expected {', '.join(COLUMNS)}")
            for batch in file.iter_batches(columns=COLUMNS):
                users, tags, counts = (batch.column(name).to_pylist() for name in COLUMNS)
                yield from zip(users, tags, counts, strict=True)
    except (OSError, pa.ArrowException) as error:
        raise InvalidHistory(f"cannot be read as Parquet: {error}") from error


def _write_parquet(path: Path, rows: Iterator[tuple[str, str, float]]) -> int:
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    schema, number = pa.schema(zip(COLUMNS, (pa.string(), pa.string(), pa.float64()), strict=True)), 0
    with _replacing(path) as partial, parquet.ParquetWriter(partial, schema) as writer:
        while batch := list(islice(rows, 65_536)):
            columns = zip(*batch, strict=True)
            writer.write_batch(pa.record_batch([*map(pa.array, columns, schema.types)], schema=schema))
            number += len(batch)
    return number


def _write(path: Path, history: TagHistory) -> None:
    write_history(path, history)
    print(f"{printable(str(path))}: {len(history)} tags")
