"""Parallel text files, as the paper's authors use them: three files with one line per image.

The first has the image's path, the second its tags, separated by blanks, the third the user's id. A fourth, which the
authors do not have, has when and where it was taken: date and time, longitude and latitude, separated by tabs.
"""

from dataclasses import dataclass
from pathlib import Path

import duckdb
from altreco_client import Vocabulary
from tqdm import tqdm

from training.data.importers.build import insert_lines, make_vocabulary
from training.data.importers.lines import read_list, read_parallel
from training.errors import DataError


@dataclass(frozen=True, kw_only=True)
class ParallelText:
    """`train` and `test`: files with images, tags, users and optionally context; `test` may lack users, too.

    Without users, test pictures belong to a user with an empty name and no history. `strip_prefix` is removed where an
    image's path begins with it.
    """

    train: tuple[Path, ...]
    test: tuple[Path, ...] = ()
    vocabulary_file: Path
    strip_prefix: str = ""

    def __post_init__(self) -> None:
        """Raise DataError for a wrong number of files."""
        if len(self.train) not in {3, 4} or len(self.test) not in {0, 2, 3, 4}:
            raise DataError(
                "expected images, tags and users for train, and images, tags and optionally users for test; "
                "after the users, a file with context may follow"
            )

    def vocabulary(self) -> tuple[Vocabulary, int]:
        """Read the tags, one per line; raises DataError."""
        return make_vocabulary(self.vocabulary_file, read_list(self.vocabulary_file))

    def paths(self) -> list[Path]:
        """List all files but the vocabulary."""
        return [*self.test, *self.train]

    def stage(self, database: duckdb.DuckDBPyConnection, progress: tqdm) -> None:
        """Read test before train: the first of duplicates is kept, and the test split must not depend on train."""
        database.execute("SET VARIABLE prefix = ?", [self.strip_prefix])
        for split, paths in (("test", self.test), ("train", self.train)):
            if paths:
                files = dict(zip(("image", "tags", "user", "context"), paths, strict=False))
                with read_parallel(files, progress) as lines:
                    given = {name: f'"{name}"' if name in files else "NULL" for name in ("user", "context")}
                    insert_lines(database, _QUERY.format(lines=lines, split=split, **given))


_QUERY = """
    SELECT
        line, key, key AS image,
        coalesce({user}, '') AS "user", '{split}' AS split, NULL AS url,
        string_split(replace(tags, chr(9), ' '), ' ') AS words,
        TRY_CAST(parts[1] AS TIMESTAMP) AS taken,
        TRY_CAST(parts[2] AS DOUBLE) AS longitude, TRY_CAST(parts[3] AS DOUBLE) AS latitude, NULL::VARCHAR[] AS labels,
        CASE WHEN key = '' OR {user} = '' OR len(parts) <> 3 THEN 'broken' END AS problem
    FROM (
        SELECT
            * EXCLUDE (image), image AS line, string_split(nullif({context}, ''), chr(9)) AS parts,
            trim(if(starts_with(image, getvariable('prefix')), image[length(getvariable('prefix')) + 1:], image)) AS key
        FROM {lines}
    )
"""
