"""Parallel text files, as the paper's authors use them: three files with one line per image.

The first has the image's path, the second its tags, separated by blanks, the third the user's id.
"""

from dataclasses import dataclass
from pathlib import Path

import duckdb
from altreco_client import Vocabulary
from tqdm import tqdm

from training.data.importers.build import insert_lines, read_tag_list
from training.data.importers.lines import read_parallel
from training.errors import DataError


@dataclass(frozen=True, kw_only=True)
class ParallelText:
    """`train` and `test`: files with images, tags and users; `test` may lack users.

    Without users, test pictures belong to a user with an empty name and no history. `strip_prefix` is removed from the
    images' paths.
    """

    train: tuple[Path, ...]
    test: tuple[Path, ...] = ()
    vocabulary_file: Path
    strip_prefix: str = ""

    def __post_init__(self) -> None:
        """Raise DataError for a wrong number of files."""
        if len(self.train) != 3 or len(self.test) not in {0, 2, 3}:
            raise DataError("expected images, tags and users for train, and images, tags and optionally users for test")

    def vocabulary(self) -> Vocabulary:
        """Read the tags, one per line; raises DataError."""
        return read_tag_list(self.vocabulary_file)

    def paths(self) -> list[Path]:
        """List all files but the vocabulary."""
        return [*self.test, *self.train]

    def stage(self, database: duckdb.DuckDBPyConnection, progress: tqdm) -> None:
        """Read test before train: the first of duplicates is kept, and the test split must not depend on train."""
        database.execute("SET VARIABLE prefix = ?", [self.strip_prefix])
        for split, paths in (("test", self.test), ("train", self.train)):
            if paths:
                files = dict(zip(("image", "tags", "user"), paths, strict=False))
                with read_parallel(files, progress) as lines:
                    user = '"user"' if "user" in files else "NULL"
                    insert_lines(database, _QUERY.format(lines=lines, split=split, user=user))


_QUERY = """
    SELECT
        image AS line, trim(replace(image, getvariable('prefix'), '')) AS key, key AS image,
        coalesce({user}, '') AS "user", '{split}' AS split, NULL AS url,
        string_split(replace(lower(tags), chr(9), ' '), ' ') AS words,
        CASE WHEN key = '' OR {user} = '' THEN 'broken' END AS problem
    FROM {lines}
"""
