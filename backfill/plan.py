"""The manifest, its parts, and the plan of a folder. Parts follow from the manifest alone: shards need not talk."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from backfill.errors import InputError
from backfill.storage import Place

FORMAT = "altreco-backfill-1"
PLAN_FILE = "_plan.json"
READERS = 8
"""Files whose footers are read at the same time."""


@dataclass(frozen=True)
class Part:
    """Whole row groups of the manifest, as (file, row group)."""

    number: int
    groups: tuple[tuple[str, int], ...]
    rows: int

    @property
    def file(self) -> str:
        """Name of its file of results."""
        return part_file(self.number)


@dataclass(frozen=True)
class Manifest:
    """Parquet files of pictures, or of their kept encodings."""

    source: Place
    names: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    """Rows of each row group of each file."""
    schema: pa.Schema
    """Schema of the first file; the others have the same names."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(map(sum, self.groups))

    @property
    def root(self) -> Place:
        """The folder where relative paths of pictures start."""
        if self.names != ("",):
            return self.source
        path, text = (each.rpartition("/")[0] for each in (self.source.path, self.source.text))
        return Place(self.source.system, path, text)

    def sha256(self) -> str:
        """The hash of names and sizes; contents may be too large to read twice."""
        return hashlib.sha256(json.dumps([self.names, self.groups]).encode()).hexdigest()

    def parts(self, part_rows: int) -> list[Part]:
        """Divide the row groups into parts of up to `part_rows` rows; a larger row group is a part of its own."""
        parts: list[Part] = []
        groups: list[tuple[str, int]] = []
        rows = 0
        for name, sizes in zip(self.names, self.groups, strict=True):
            for group, size in enumerate(sizes):
                if not size:
                    continue
                if groups and rows + size > part_rows:
                    parts.append(Part(len(parts), tuple(groups), rows))
                    groups, rows = [], 0
                groups.append((name, group))
                rows += size
        return [*parts, Part(len(parts), tuple(groups), rows)] if groups else parts

    def read(self, part: Part, columns: Sequence[str]) -> pa.Table:
        """Read a part's columns, of those that there are; raises InputError for a damaged file, and OSError."""
        there = [column for column in columns if column in self.schema.names]
        tables = []
        for name, group in part.groups:
            place = self.source.file(name)
            try:
                with place.system.open_input_file(place.path) as file:
                    tables.append(pq.ParquetFile(file).read_row_group(group, columns=there))
            except pa.ArrowInvalid as error:
                raise InputError(f"{place.text}: row group {group} is damaged: {error}") from error
        return pa.concat_tables(tables, promote_options="permissive")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all shards of a folder must agree on, and the release that answered when the first one started."""

    manifest_sha256: str
    rows: int
    parts: int
    part_rows: int
    k: int
    encodings: str | None = None
    """SHA-256 of the visual encoder whose encodings are kept or used."""
    release: str

    def keep(self, out: Place) -> "Plan":
        """Write the plan into a new folder. Return the one that is there; raises InputError if it is another."""
        found = self.found_in(out)
        if found is None:
            out.system.create_dir(out.path, recursive=True)
            (out / PLAN_FILE).write((json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n").encode())
            found = self.found_in(out) or self
        return found

    def found_in(self, out: Place) -> "Plan | None":
        """Return the plan of the folder, None if it has none; raises InputError if it is another."""
        found = read_plan(out)
        if found is not None and replace(found, release=self.release) != self:
            now, there = asdict(self), asdict(found)
            told = ", ".join(
                f"{name} {there[name]} there, {now[name]} now"
                for name in now
                if name != "release" and now[name] != there[name]
            )
            raise InputError(
                f"{out.text} has the results of another manifest or of other options ({told}): expected a new folder "
                "in its place, or the manifest and the options of before"
            )
        return found


def read_plan(out: Place) -> Plan | None:
    """Read a folder's plan, None if it has none; raises InputError for a damaged or foreign one."""
    try:
        values: Any = json.loads((out / PLAN_FILE).read())
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        return Plan(**values)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise InputError(f"{out.text}/{PLAN_FILE}: expected the plan of a backfill: {error}") from error


def read_manifest(source: Place) -> Manifest:
    """Read the footers of the manifest's files; raises InputError and OSError."""
    names = source.parquet_files()
    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(lambda name: _footer(source.file(name)), names))
    first = found[0][1]
    for name, (_, schema) in zip(names, found, strict=True):
        if schema.names != first.names:
            raise InputError(f"{source.file(name).text}: expected the columns {first.names}, found {schema.names}")
    return Manifest(source, tuple(names), tuple(groups for groups, _ in found), first)


def part_file(number: int) -> str:
    """Name of a part's file."""
    return f"part-{number:05}.parquet"


def _footer(file: Place) -> tuple[tuple[int, ...], pa.Schema]:
    """Rows of each row group, and the schema."""
    try:
        with file.system.open_input_file(file.path) as opened:
            parquet = pq.ParquetFile(opened)
            metadata = parquet.metadata
            return tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)), parquet.schema_arrow
    except pa.ArrowInvalid as error:
        raise InputError(f"{file.text}: expected a Parquet file: {error}") from error
