"""NUS-WIDE with its 1,000 user tags: image lists, a tag list, tags as a matrix or as words, and a user id per image.

`Imagelist.txt`, `TrainImagelist.txt` and `TestImagelist.txt` have one path per line, such as
`actor\\0001_2124494179.jpg`; the number after the underscore is the photo's id on Flickr. `AllTags1k.txt` has one line
per image, in the order of Imagelist, with a 0 or 1 for each line of `TagList1k.txt`, separated by tabs. `All_Tags.txt`
has the photo's id and its tags, separated by blanks. NUS-WIDE has no users; they are queried from Flickr by photo id
(paper, section V-A). Their file has a line with photo id and user id for each photo that still existed.
"""

from dataclasses import dataclass
from pathlib import Path

import duckdb
from altreco_client import Vocabulary
from tqdm import tqdm

from training.data.importers.build import insert_lines, read_tag_list
from training.data.importers.lines import read_lines, read_parallel
from training.errors import DataError


@dataclass(frozen=True, kw_only=True)
class NusWide:
    """The files of NUS-WIDE, with either `tag_matrix` or `tag_lines`."""

    tag_list: Path
    tag_matrix: Path | None = None
    tag_lines: Path | None = None
    image_list: Path
    train_list: Path
    test_list: Path
    users: Path

    def __post_init__(self) -> None:
        """Raise DataError unless exactly one file with tags is given."""
        if (self.tag_matrix is None) == (self.tag_lines is None):
            raise DataError("expected either a tag matrix (AllTags1k.txt) or tag lines (All_Tags.txt)")

    def vocabulary(self) -> Vocabulary:
        """Read the tags, one per line in the order of the matrix's columns; raises DataError."""
        return read_tag_list(self.tag_list)

    def paths(self) -> list[Path]:
        """List all files but the vocabulary."""
        return [self.image_list, self._tags, self.train_list, self.test_list, self.users]

    @property
    def _tags(self) -> Path:
        tags = self.tag_matrix or self.tag_lines
        assert tags
        return tags

    def stage(self, database: duckdb.DuckDBPyConnection, progress: tqdm) -> None:
        """Read the lists, then images and tags in parallel."""
        database.execute("CREATE TEMP TABLE listed (image VARCHAR, split VARCHAR)")
        for split, path in (("train", self.train_list), ("test", self.test_list)):
            with read_lines([path], progress) as lines:
                database.execute(f"INSERT INTO listed SELECT {_PATH}, '{split}' FROM {lines.table}")
        database.execute("CREATE TEMP TABLE splits AS SELECT image, min(split) AS split FROM listed GROUP BY image")
        with read_lines([self.users], progress) as lines:
            database.execute(f"CREATE TEMP TABLE users AS {_USERS.format(lines=lines.table)}")
        with read_parallel({"line": self.image_list, "tags": self._tags}, progress) as table:
            insert_lines(database, _QUERY.format(images=_IMAGES[self.tag_matrix is not None].format(lines=table)))


_PATH = "replace(trim(line), '\\', '/')"
_PHOTO = f"regexp_extract({_PATH}, '_([0-9]+)[.][A-Za-z]+$', 1)"
_USERS = """
    SELECT parts[1] AS photo, min(parts[2]) AS "user"
    FROM (SELECT string_split_regex(trim(line), '[ \\t]+') AS parts FROM {lines})
    WHERE len(parts) = 2 GROUP BY photo
"""
_IMAGES = {
    True: f"""
        SELECT *, if(len(bits) = len(getvariable('tags')) AND list_count(bits) = len(bits),
                     list_where(getvariable('tags'), bits), NULL) AS words
        FROM (
            SELECT line, {_PATH} AS image, {_PHOTO} AS photo,
                TRY_CAST(string_split(rtrim(tags, chr(9) || ' '), chr(9)) AS BOOLEAN[]) AS bits
            FROM {{lines}}
        )
    """,
    False: f"""
        SELECT line, image, photo, if(parts[1] = photo, parts[2:], NULL) AS words
        FROM (
            SELECT line, {_PATH} AS image, {_PHOTO} AS photo,
                string_split_regex(trim(lower(tags)), '[ \\t]+') AS parts
            FROM {{lines}}
        )
    """,
}
_QUERY = """
    SELECT
        line, photo AS key, image, "user", words, split, NULL AS url,
        CASE
            WHEN photo = '' OR words IS NULL THEN 'broken'
            WHEN split IS NULL THEN 'no_split'
            WHEN "user" IS NULL THEN 'no_user'
        END AS problem
    FROM ({images}) LEFT JOIN users USING (photo) LEFT JOIN splits USING (image)
"""
