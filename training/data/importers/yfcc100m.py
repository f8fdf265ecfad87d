"""YFCC100M's metadata: tab-separated, plain or .bz2, in the layout of 23 columns or the later one of 25.

23 columns: photo id, user NSID, nickname, date taken, date uploaded, device, title, description, user tags, machine
tags, longitude, latitude, accuracy, page URL, download URL, license, license URL, server, farm, secret, original's
secret, extension, marker (0 photo, 1 video). 25 columns: the same, with the line's number before and a hash after the
photo id. Tags are separated by commas and URL-encoded ("black+and+white"), as in the vocabulary of the paper's authors.
That one has both "close+up" and "closeup", so comparing tags keeps blanks, and ignores case.
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_plus

import duckdb
from altreco_client import Vocabulary
from tqdm import tqdm

from training.data.importers.build import insert_lines, make_vocabulary
from training.data.importers.lines import read_lines, read_list
from training.errors import DataError

_SPLIT_PARTS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Yfcc100m:
    """`image`: path of an image, with {id} for the photo's id. Test split: the listed ids, or a share by hash."""

    metadata: tuple[Path, ...]
    vocabulary_file: Path
    test_ids: Path | None = None
    test_share: float = 0.0
    image: str = "{id}.jpg"

    def __post_init__(self) -> None:
        """Raise DataError for an image path without {id}, or a share outside 0 to 1."""
        if "{id}" not in self.image:
            raise DataError(f"image template {self.image!r}: expected {{id}} in it, as in '{{id}}.jpg'")
        if not 0 <= self.test_share < 1:
            raise DataError(f"test share {self.test_share}: expected 0 or more and less than 1")

    def vocabulary(self) -> tuple[Vocabulary, int]:
        """Read the tags, one per line, URL-encoded as in the metadata; raises DataError."""
        tags = [unquote_plus(tag).strip() for tag in read_list(self.vocabulary_file)]
        return make_vocabulary(self.vocabulary_file, tags)

    def paths(self) -> list[Path]:
        """List the metadata files in their order."""
        return list(self.metadata)

    def stage(self, database: duckdb.DuckDBPyConnection, progress: tqdm) -> None:
        """Stage the lines of the metadata."""
        ids = read_list(self.test_ids) if self.test_ids else []
        database.execute("CREATE TEMP TABLE test AS SELECT DISTINCT unnest(?::VARCHAR[]) AS id", [ids])
        database.execute("SET VARIABLE image = ?", [self.image])
        database.execute("SET VARIABLE part = ?", [self.test_share * _SPLIT_PARTS])
        with read_lines(self.metadata, progress) as lines:
            insert_lines(database, _QUERY.format(lines=lines.table, parts=_SPLIT_PARTS))


_QUERY = """
    SELECT
        line, key, "user", url, replace(getvariable('image'), '{{id}}', key) AS image,
        list_transform(
            list_transform(string_split(tags, ','), lambda tag: replace(tag, '+', ' ')),
            lambda tag: trim(if(contains(tag, '%'), TRY(url_decode(tag)), tag))
        ) AS words,
        TRY_CAST(replace(replace(date, '+', ' '), '%3A', ':') AS TIMESTAMP) AS taken,
        TRY_CAST(x AS DOUBLE) AS longitude, TRY_CAST(y AS DOUBLE) AS latitude, NULL::VARCHAR[] AS labels,
        if(test.id IS NOT NULL OR md5_number_lower(key) % {parts} < getvariable('part'), 'test', 'train') AS split,
        CASE
            WHEN TRY_CAST(key AS BIGINT) IS NULL OR coalesce("user", '') = '' OR marker NOT IN ('0', '1') THEN 'broken'
            WHEN marker = '1' THEN 'video'
        END AS problem
    FROM (
        SELECT
            line,
            CASE len(f) WHEN 23 THEN 0 WHEN 25 THEN 2 END AS shift,
            f[if(shift = 2, 2, 1)] AS key, f[2 + shift] AS "user", f[9 + shift] AS tags, f[15 + shift] AS url,
            f[23 + shift] AS marker, f[4 + shift] AS date, f[11 + shift] AS x, f[12 + shift] AS y
        FROM (SELECT line, string_split(line, chr(9)) AS f FROM {lines})
    ) LEFT JOIN test ON key = test.id
"""
