"""Measure time and memory of an import: `python -m benchmark.importing --lines 5000000 [--bz2]`.

It generates lines in the layout of YFCC100M, imports them, reads the manifest and builds the histories, each step in
its own process. The lines resemble the real ones where it matters for time and memory: 25 columns, 250,000 users with a
power law, URL-encoded tags of which 70 % are in a vocabulary of 1,540, 30 % of lines without tags, and a few videos,
broken lines and duplicates.
"""

import argparse
import bz2
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
from altreco_client.cli.pipe import quiet_pipe

from training.data.concepts import build_vocabulary
from training.data.importers.report import REPORT_FILE

USERS = 250_000
TAGS = 1540
READ = """
import sys
from pathlib import Path
from training.data.histories import build_histories
from training.data.manifest import read_manifest
manifest = read_manifest(Path(sys.argv[1]))
histories = build_histories(manifest)
print(f"{len(manifest.images):,} pictures, {len(histories):,} users, {len(histories.counts):,} counts")
"""


def generate(folder: Path, lines: int) -> Path:
    """Write `lines.tsv` and `tags.txt`, which depend only on the number of lines; return the path of the lines."""
    (folder / "tags.txt").write_text("".join(f"{tag}\n" for tag in build_vocabulary(TAGS)), encoding="ascii")
    with duckdb.connect() as database:
        database.execute("CREATE TABLE tags AS SELECT unnest(?) AS tag", [list(build_vocabulary(TAGS))])
        database.execute("SET VARIABLE tags = (SELECT list(tag ORDER BY rowid) FROM tags)")
        database.execute("CREATE MACRO uniform(n, salt) AS hash(128 * n + salt) / 18446744073709551616.0")
        database.execute(_LINES.format(users=USERS, tags=TAGS, lines=lines, path=folder / "lines.tsv"))
    return folder / "lines.tsv"


_LINES = """
    COPY (
        SELECT if(uniform(i, 1) < 0.001, left(line, 90), line)
        FROM (
            SELECT i, concat_ws(
                chr(9), i, photo, md5(photo), printf('%d@N%02d', 10000000 + person * 331, person % 9),
                'nick+' || person, '2012-02-16+09:56:37.0', 1331840483 + i, 'Canon+PowerShot+ELPH+310+HS',
                'IMG_' || i, repeat('A+day+at+the+sea%2C+and+more.+', (uniform(i, 2) * 8)::INTEGER), words, '',
                '-81.804885', '24.550558', '12', 'http://www.flickr.com/photos/' || person || '/' || photo || '/',
                'http://farm8.staticflickr.com/7205/' || photo || '_df86ba9ee0.jpg',
                'Attribution-NonCommercial-NoDerivs License', 'http://creativecommons.org/licenses/by-nc-nd/2.0/',
                '7205', '8', 'df86ba9ee0', '5e0b9b9d6c', 'jpg', if(uniform(i, 3) < 0.008, 1, 0)
            ) AS line
            FROM (
                SELECT
                    i, (1000000000 + 7 * (i - if(uniform(i, 4) < 0.001, 1, 0)))::VARCHAR AS photo,
                    ({users} * uniform(i, 5) ** 3)::INTEGER AS person,
                    array_to_string(list_transform(
                        range(if(uniform(i, 6) < 0.3, 0, 1 + (13 * uniform(i, 7) ** 2)::INTEGER)),
                        lambda j: if(
                            uniform(i, 8 + j) < 0.7,
                            getvariable('tags')[1 + ({tags} * uniform(i, 50 + j) ** 2)::INTEGER],
                            'caf%C3%A9+' || (100000 * uniform(i, 90 + j))::INTEGER
                        )
                    ), ',') AS words
                FROM range({lines}) AS numbers (i)
            )
        )
    ) TO '{path}' (HEADER false, DELIMITER '\x1f', QUOTE '', ESCAPE '')
"""


@quiet_pipe()
def main() -> int:
    """Run the steps and print the time and memory of each."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.importing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--lines", type=int, default=5_000_000, help="lines to generate (%(default)s)")
    parser.add_argument("--bz2", action="store_true", help="compress the lines before the import, as YFCC100M is")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="altreco-import-") as name:
        folder = Path(name)
        text = generate(folder, arguments.lines)
        print(f"{arguments.lines:,} lines, {text.stat().st_size / 1e9:.2f} GB", flush=True)
        if arguments.bz2:
            text = _compressed(text)
        tags, data = str(folder / "tags.txt"), str(folder / "data")
        options = ["--vocabulary", tags, "--test-share", "0.01", "--out", data]
        _run("import", "-m", "training.data.importers", "yfcc100m", str(text), *options)
        print((folder / "data" / REPORT_FILE).read_text(encoding="ascii"))
        _run("read the manifest, build the histories", "-c", READ, data)
    return 0


def _compressed(path: Path) -> Path:
    packed = path.with_name(path.name + ".bz2")
    with path.open("rb") as source, bz2.open(packed, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    path.unlink()
    return packed


def _run(step: str, *arguments: str) -> None:
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, *arguments])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{step} failed with exit code {process.returncode}")
    print(f"{step}: {time.monotonic() - start:.1f} s, peak memory {usage.ru_maxrss / 1024:.0f} MB", flush=True)


if __name__ == "__main__":
    sys.exit(main())
