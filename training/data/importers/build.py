"""Shared by all importers: from staged lines to a data set folder, in bounded memory.

A layout reads its files once, into a table on disk with a row per line and only the columns that are needed. Then
duplicates are found, images are checked, and the rest is written as the manifest. DuckDB spills to disk if needed.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path
from typing import Protocol

import duckdb
from altreco_client import Vocabulary
from tqdm import tqdm

from measure.progress import progress_bar
from training.data.folder import renamed_when_complete
from training.data.importers.images import unusable_images
from training.data.importers.report import LABELS, Report, check_bad_share
from training.data.manifest import LATITUDE, LONGITUDE, MANIFEST_FILE, VOCABULARY_FILE
from training.errors import DataError

MEMORY_LIMIT = "256MB"
WORK_FILE = "import.duckdb"
IMAGES = "images"
"""Name of the link to the folder of the images, as a data set names pictures by paths below its own folder."""
POSSIBLE_YEARS = (1990, 2015)
"""First and last year of these collections' pictures; other dates are from cameras whose clock was not set."""


@dataclass(frozen=True, kw_only=True)
class ImportSettings:
    """`out`: the folder to create. `images`: the folder of the images, if they are to be checked.

    `decode`: check all pixels of the images, not only the header. `max_bad_share`: share of lines that may be broken,
    lack their image, or have an unusable one; more is a DataError. `min_tags_train` and `min_tags_test`: pictures with
    fewer different tags of the vocabulary are left out of the split. `with_context_only`: leave out pictures without
    date or place.
    """

    out: Path
    images: Path | None = None
    decode: bool = False
    max_bad_share: float = 0.05
    min_tags_train: int = 1
    min_tags_test: int = 1
    with_context_only: bool = False

    def __post_init__(self) -> None:
        """Raise DataError for a number out of range, or a missing folder of images."""
        for name in ("min_tags_train", "min_tags_test"):
            if getattr(self, name) < 1:
                raise DataError(f"{name.replace('_', ' ')} {getattr(self, name)}: expected 1 or more")
        if self.decode and self.images is None:
            raise DataError("images can be decoded only where they are: give their folder with --images")
        if not 0 <= self.max_bad_share <= 1:
            raise DataError(f"max bad share {self.max_bad_share}: expected 0 to 1")
        if self.images and not self.images.is_dir():
            raise DataError(f"no folder of images at {self.images}")


class Layout(Protocol):
    """A file layout that can be imported."""

    def vocabulary(self) -> tuple[Vocabulary, int]:
        """Read the tags to keep, as `make_vocabulary` returns them; raises DataError."""

    def paths(self) -> list[Path]:
        """List the files that `stage` reads."""

    def stage(self, database: duckdb.DuckDBPyConnection, progress: tqdm) -> None:
        """Call `insert_lines` for all lines; `progress` counts the files' bytes."""


def import_data(layout: Layout, settings: ImportSettings, *, quiet: bool = False) -> Report:
    """Write the data set; raises DataError, and then removes what it has written."""
    vocabulary, changed = layout.vocabulary()
    with renamed_when_complete(settings.out, WORK_FILE) as folder:
        with _database(folder, vocabulary, settings) as database:
            size = sum(path.stat().st_size for path in layout.paths() if path.is_file())
            with progress_bar(title="read", total=size, unit="B", unit_scale=True, disable=quiet) as progress:
                layout.stage(database, progress)
            _find_duplicates(database)
            _check(database, settings, quiet)
            _write_manifest(database, folder, settings)
            report = _report(database, folder, changed)
        (folder / VOCABULARY_FILE).write_text("".join(f"{tag}\n" for tag in vocabulary.tags), encoding="utf-8")
        report.write(folder)
    return report


def make_vocabulary(path: Path, tags: list[str]) -> tuple[Vocabulary, int]:
    """Create a vocabulary of tags read from `path`, in lower case and Unicode's composed form (NFC), as all tags are.

    Also returns how many tags this changed. Raises DataError if there is none, or one twice.
    """
    if not tags:
        raise DataError(f"vocabulary {path} is empty: expected one tag per line")
    with duckdb.connect() as database:
        (folded,) = _row(database, f"SELECT list_transform(?, lambda word: {_FOLDED})", [tags])
    try:
        return Vocabulary(tuple(folded)), sum(a != b for a, b in zip(tags, folded, strict=True))
    except ValueError as error:
        raise DataError(f"vocabulary {path}: {error}") from error


_FOLDED = "nfc_normalize(lower(word))"


def insert_lines(database: duckdb.DuckDBPyConnection, query: str) -> None:
    """Stage the rows of a SELECT in its order; tags are looked up in the vocabulary.

    Its columns: `line` (the text), `problem` (a name in Report, or NULL), `key` (equal for duplicates), `image`,
    `user`, `words` (the tags), `split`, `url`, `taken`, `longitude`, `latitude` and `labels`. Dates outside
    POSSIBLE_YEARS and impossible places become NULL.
    """
    first, last = POSSIBLE_YEARS
    database.execute(f"""
        INSERT INTO stage
        SELECT
            p,
            CASE WHEN p IS NULL THEN key END,
            CASE WHEN p IS NULL THEN image END,
            CASE WHEN p IS NULL THEN "user" END,
            CASE WHEN p IS NULL THEN known END,
            CASE WHEN p IS NULL THEN split END,
            CASE WHEN p IS NULL THEN url END,
            CASE WHEN p IS NULL THEN date END,
            CASE WHEN p IS NULL AND placed THEN longitude END,
            CASE WHEN p IS NULL AND placed THEN latitude END,
            CASE WHEN p IS NULL THEN labels END,
            coalesce(len(given) - len(found), 0),
            coalesce(len(list_filter(found, lambda word: NOT list_contains(words, word))), 0),
            CASE WHEN p = 'broken' THEN left(line, 80) END
        FROM (SELECT *, coalesce(problem, CASE
            WHEN len(given) = 0 THEN 'no_tags'
            WHEN len(known) = 0 THEN 'no_known_tag'
            WHEN len(known) < if(split = 'train', getvariable('min_train'), getvariable('min_test')) THEN 'few_tags'
            WHEN getvariable('with_context') AND NOT (placed AND date IS NOT NULL) THEN 'no_context'
        END) AS p
        FROM (SELECT *,
            list_sort(list_distinct(CAST(found AS vocabulary[]))) AS known,
            CASE WHEN year(taken) BETWEEN {first} AND {last} THEN taken END AS date,
            coalesce(abs(longitude) <= {LONGITUDE} AND abs(latitude) <= {LATITUDE}, false) AS placed
        FROM (SELECT *, list_filter(given, lambda word: word IN getvariable('tags')) AS found
        FROM (SELECT *,
            list_transform(list_filter(words, lambda word: coalesce(word, '?') <> ''), lambda word: {_FOLDED}) AS given
        FROM ({query})))))
    """)


@contextmanager
def _database(folder: Path, vocabulary: Vocabulary, settings: ImportSettings) -> Iterator[duckdb.DuckDBPyConnection]:
    try:
        with duckdb.connect(folder / WORK_FILE) as database:
            database.execute(f"SET memory_limit = '{MEMORY_LIMIT}'; SET enable_progress_bar = false")
            # With more threads, joins change the order of lines, and take as long, because one pipe feeds them all.
            database.execute("SET threads = 1")
            # All joins have the lines on the left, so that these are streamed.
            database.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
            database.execute("SET VARIABLE tags = ?", [list(vocabulary.tags)])
            database.execute("SET VARIABLE min_train = ?", [settings.min_tags_train])
            database.execute("SET VARIABLE min_test = ?", [settings.min_tags_test])
            database.execute("SET VARIABLE with_context = ?", [settings.with_context_only])
            database.execute("CREATE TYPE vocabulary AS ENUM (SELECT unnest(getvariable('tags')))")
            database.execute("""
                CREATE TABLE stage (
                    problem VARCHAR, key VARCHAR, image VARCHAR, "user" VARCHAR, tags vocabulary[], split VARCHAR,
                    url VARCHAR, taken TIMESTAMP, longitude DOUBLE, latitude DOUBLE, labels VARCHAR[],
                    unknown INTEGER, changed INTEGER, sample VARCHAR
                );
                CREATE TABLE left_out (row BIGINT, problem VARCHAR)
            """)
            yield database
    except duckdb.Error as error:
        raise DataError(f"the import stopped: {error}") from error
    for path in folder.glob(f"{WORK_FILE}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _find_duplicates(database: duckdb.DuckDBPyConnection) -> None:
    """Mark all but the first line of each key."""
    database.execute("""
        INSERT INTO left_out
        SELECT stage.rowid, 'duplicate'
        FROM stage JOIN (
            SELECT key, min(rowid) AS first FROM stage WHERE problem IS NULL GROUP BY key HAVING count(*) > 1
        ) AS repeated USING (key)
        WHERE problem IS NULL AND stage.rowid > first
    """)


def _check(database: duckdb.DuckDBPyConnection, settings: ImportSettings, quiet: bool) -> None:
    """Check the images, if requested; raise DataError as soon as too many lines are bad."""
    lines, candidates, broken, example, without_context = _row(
        database,
        "SELECT count(*), count(key), count(sample), arg_min(sample, rowid), count_if(problem = 'no_context') "
        "FROM stage",
    )
    if without_context and not candidates:
        raise DataError(
            "no picture has both a date and a place: import without --with-context-only, or add the context"
        )
    bad = {"broken": broken, "missing_image": 0, "no_image": 0}
    example = example and f"the first broken line begins {example!r}"
    check_bad_share(bad, lines, settings.max_bad_share, example)
    if settings.images is None:
        return
    with (
        database.cursor() as rows,
        progress_bar(title="images", total=candidates, unit="image", disable=quiet) as progress,
    ):
        rows.execute(
            "SELECT stage.rowid, image FROM stage ANTI JOIN left_out ON stage.rowid = row WHERE stage.problem IS NULL"
        )
        for unusable, problems in unusable_images(rows, settings.images, progress, decode=settings.decode):
            database.execute("INSERT INTO left_out SELECT unnest(?), unnest(?)", [unusable, problems])
            for problem in problems:
                bad[problem] += 1
            if problems and not example:
                (image,) = _row(database, "SELECT image FROM stage WHERE rowid = ?", [unusable[0]])
                example = f"the first of these images is {str(settings.images / image)!r}"
            check_bad_share(bad, lines, settings.max_bad_share, example)


def _write_manifest(database: duckdb.DuckDBPyConnection, folder: Path, settings: ImportSettings) -> None:
    if settings.images:  # relative, so that data set and images can be moved together
        (folder / IMAGES).symlink_to(relpath(settings.images, settings.out))
    database.execute("SET VARIABLE below = ?", [f"{IMAGES}/" if settings.images else ""])
    urls, dates, places, labels = _row(
        database, "SELECT count(url), count(taken), count(longitude), count(labels) FROM stage"
    )
    more = (", url" if urls else "") + (", labels" if labels else "")
    more += ", taken, longitude, latitude" if dates or places else ""
    database.execute(f"""
        COPY (
            SELECT
                getvariable('below') || image AS image,
                "user", CAST(tags AS VARCHAR[]) AS tags, split{more}
            FROM ({_KEPT})
        ) TO '{_quoted(folder / MANIFEST_FILE)}' (FORMAT parquet, COMPRESSION zstd)
    """)


def _report(database: duckdb.DuckDBPyConnection, folder: Path, changed_vocabulary: int) -> Report:
    manifest = f"read_parquet('{_quoted(folder / MANIFEST_FILE)}')"
    lines, unknown, changed = _row(
        database, "SELECT count(*), coalesce(sum(unknown), 0), coalesce(sum(changed), 0) FROM stage"
    )
    dates, places = _row(database, f"SELECT count(taken), count(longitude) FROM ({_KEPT})")
    pictures, train, users = _row(
        database, f"""SELECT count(*), count(*) FILTER (split = 'train'), count(DISTINCT "user") FROM {manifest}"""
    )
    problems = dict(
        database.execute("""
            SELECT problem, count(*) FROM (SELECT problem FROM stage UNION ALL SELECT problem FROM left_out)
            WHERE problem IS NOT NULL GROUP BY problem
        """).fetchall()
    )
    report = Report(
        lines=lines,
        pictures=pictures,
        users=users,
        unknown_tags=unknown,
        changed_tags=changed,
        changed_vocabulary=changed_vocabulary,
        without_date=pictures - dates,
        without_place=pictures - places,
        **{**dict.fromkeys(_REASONS, 0), **problems},
    )
    if not train:
        raise DataError(f"nothing to train on:\n{report}")
    return report


_REASONS = [name for name, label in LABELS.items() if label.startswith("left out")]


_KEPT = "SELECT stage.* FROM stage ANTI JOIN left_out ON stage.rowid = row WHERE stage.problem IS NULL"


def _row(database: duckdb.DuckDBPyConnection, query: str, parameters: Sequence[object] = ()) -> tuple:
    row = database.execute(query, parameters).fetchone()
    assert row is not None
    return row


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
