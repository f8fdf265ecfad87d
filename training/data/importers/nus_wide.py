"""NUS-WIDE with its 1,000 user tags: image lists, a tag list, tags as a matrix or as words, and a user id per image.

`Imagelist.txt`, `TrainImagelist.txt` and `TestImagelist.txt` have one path per line, such as
`actor\\0001_2124494179.jpg`; the number after the underscore is the photo's id on Flickr. `AllTags1k.txt` has one line
per image, in the order of Imagelist, with a 0 or 1 for each line of `TagList1k.txt`, separated by tabs. `All_Tags.txt`
has the photo's id and its tags, separated by blanks. NUS-WIDE has no users; they are queried from Flickr by photo id
(paper, section V-A). Their file has a line with photo id and user id for each photo that still existed. Likewise, a
file of context has photo id, date and time, longitude and latitude, separated by tabs. `Groundtruth/AllLabels` has a
file for each of 81 concepts, such as `Labels_airport.txt`, with a 0 or 1 per image, in the order of Imagelist.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import duckdb
from altreco_client import Vocabulary
from tqdm import tqdm

from training.data.importers.build import insert_lines, make_vocabulary
from training.data.importers.lines import read_lines, read_list, read_parallel
from training.errors import DataError


@dataclass(frozen=True, kw_only=True)
class NusWide:
    """The files of NUS-WIDE, with either `tag_matrix` or `tag_lines`; `labels` is a folder."""

    tag_list: Path
    tag_matrix: Path | None = None
    tag_lines: Path | None = None
    image_list: Path
    train_list: Path
    test_list: Path
    users: Path
    context: Path | None = None
    labels: Path | None = None

    def __post_init__(self) -> None:
        """Raise DataError unless exactly one file with tags is given."""
        if (self.tag_matrix is None) == (self.tag_lines is None):
            raise DataError("expected either a tag matrix (AllTags1k.txt) or tag lines (All_Tags.txt)")
        if self.labels and not self._label_files():
            raise DataError(f"no Labels_*.txt in {self.labels}: expected NUS-WIDE's folder Groundtruth/AllLabels")

    def vocabulary(self) -> tuple[Vocabulary, int]:
        """Read the tags, one per line in the order of the matrix's columns; raises DataError."""
        return make_vocabulary(self.tag_list, read_list(self.tag_list))

    def paths(self) -> list[Path]:
        """List all files that `stage` reads once, but the labels."""
        files = [self.image_list, self._tags, self.train_list, self.test_list, self.users]
        return [*files, *([self.context] if self.context else [])]

    def _label_files(self) -> list[Path]:
        return sorted(self.labels.glob("Labels_*.txt")) if self.labels else []

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
        database.execute("CREATE TEMP TABLE context (photo VARCHAR, taken VARCHAR, x VARCHAR, y VARCHAR)")
        if self.context:
            with read_lines([self.context], progress) as lines:
                database.execute(f"INSERT INTO context {_CONTEXT.format(lines=lines.table)}")
        with tempfile.TemporaryDirectory() as folder:
            files = {"line": self.image_list, "tags": self._tags}
            if self.labels:
                files["labels"] = _write_labels(self._label_files(), Path(folder) / "labels.txt")
            with read_parallel(files, progress) as table:
                labels = "string_split(labels, chr(9))" if self.labels else "NULL::VARCHAR[]"
                images = _IMAGES[self.tag_matrix is not None].format(lines=table, labels=labels)
                insert_lines(database, _QUERY.format(images=images))


def _write_labels(files: list[Path], out: Path) -> Path:
    """Write the labels of each image on a line, separated by tabs; raises DataError."""
    columns = [read_list(path) for path in files]
    for path, column in zip(files, columns, strict=True):
        if len(column) != len(columns[0]) or set(column) - {"0", "1"}:
            raise DataError(f"{path}: expected {len(columns[0]):,} lines with 0 or 1, as in {files[0]}")
    names = [path.stem.removeprefix("Labels_") for path in files]
    lines = (
        "\t".join(name for name, bit in zip(names, bits, strict=True) if bit == "1")
        for bits in zip(*columns, strict=True)
    )
    out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return out


_PATH = "replace(trim(line), '\\', '/')"
_PHOTO = f"regexp_extract({_PATH}, '_([0-9]+)[.][A-Za-z]+$', 1)"
_USERS = """
    SELECT parts[1] AS photo, min(parts[2]) AS "user"
    FROM (SELECT string_split_regex(trim(line), '[ \\t]+') AS parts FROM {lines})
    WHERE len(parts) = 2 GROUP BY photo
"""
_CONTEXT = """
    SELECT trim(parts[1]), first(parts[2]), first(parts[3]), first(parts[4])
    FROM (SELECT string_split(line, chr(9)) AS parts FROM {lines})
    WHERE len(parts) = 4 GROUP BY 1
"""
_IMAGES = {
    True: f"""
        SELECT *, if(len(bits) = len(getvariable('tags')) AND list_count(bits) = len(bits),
                     list_where(getvariable('tags'), bits), NULL) AS words
        FROM (
            SELECT line, {_PATH} AS image, {_PHOTO} AS photo, {{labels}} AS labels,
                TRY_CAST(string_split(rtrim(tags, chr(9) || ' '), chr(9)) AS BOOLEAN[]) AS bits
            FROM {{lines}}
        )
    """,
    False: f"""
        SELECT line, image, photo, labels, if(parts[1] = photo, parts[2:], NULL) AS words
        FROM (
            SELECT line, {_PATH} AS image, {_PHOTO} AS photo, {{labels}} AS labels,
                string_split_regex(trim(tags), '[ \\t]+') AS parts
            FROM {{lines}}
        )
    """,
}
_QUERY = """
    SELECT
        line, photo AS key, image, "user", words, split, NULL AS url, TRY_CAST(taken AS TIMESTAMP) AS taken,
        TRY_CAST(x AS DOUBLE) AS longitude, TRY_CAST(y AS DOUBLE) AS latitude,
        list_filter(labels, lambda label: label <> '') AS labels,
        CASE
            WHEN photo = '' OR words IS NULL THEN 'broken'
            WHEN split IS NULL THEN 'no_split'
            WHEN "user" IS NULL THEN 'no_user'
        END AS problem
    FROM ({images}) LEFT JOIN users USING (photo) LEFT JOIN splits USING (image) LEFT JOIN context USING (photo)
"""
