"""Tags for stored pictures, millions of them: Parquet in and out, resumable, in shards, through a served Triton.

See `python -m backfill COMMAND --help`.
"""

import argparse
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from altreco_client import AltrecoError, Channel, TagRecommender
from altreco_client.cli import connection
from altreco_client.cli.pipe import quiet_pipe
from altreco_client.text import printable

from backfill.errors import BackfillError, InputError, Terminated
from backfill.histories import histories
from backfill.pace import rate_text
from backfill.plan import part_file, read_manifest, read_plan
from backfill.releases import VisualEncoders
from backfill.results import status
from backfill.run import COLUMNS, KEPT, Job, Options, Run
from backfill.storage import place
from backfill.tagging import ENCODING, check_columns, encode_table, rerank_table, tag_table

DEADLINE_S = 60.0
"""For a batch, of which a server without a GPU computes a few pictures a second."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1 if it stopped, 2 if the input is wrong, 143 after SIGTERM."""
    try:
        with quiet_pipe():
            given = parser().parse_args(arguments)
            return int(given.command(given))
    except BackfillError as error:
        _say(f"error: {error}")
        return error.exit_code
    except (AltrecoError, OSError) as error:
        _say(f"error: {error}")
        return 2 if isinstance(error, ValueError | NotADirectoryError) else 1
    except KeyboardInterrupt:
        _say("stopped")
        return 130


def parser() -> argparse.ArgumentParser:
    """The options of all commands."""
    parser = argparse.ArgumentParser(prog="python -m backfill", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="tag the pictures of a manifest; the same command resumes")
    run.set_defaults(command=_run)
    run.add_argument(
        "--manifest", required=True, metavar="PARQUET", help="file or folder: image, and id, user, history"
    )
    run.add_argument("--histories", metavar="PARQUET|URL", help="user, tag, count: Parquet, or the URL of a database")
    run.add_argument("--encodings", metavar="FOLDER", help="keep the visual encodings there, for `rerank`")
    run.add_argument("--part-rows", type=int, default=Options.part_rows, help="most rows of a part (%(default)s)")
    _add_options(run)

    rerank = commands.add_parser("rerank", help="tag pictures again from their kept encodings and new histories")
    rerank.set_defaults(command=_rerank)
    rerank.add_argument("--encodings", required=True, metavar="FOLDER", help="what `run --encodings` kept")
    rerank.add_argument("--histories", required=True, metavar="PARQUET|URL", help="as for `run`")
    _add_options(rerank)

    state = commands.add_parser("status", help="how far all shards are: parts, pictures, errors, rate, time left")
    state.set_defaults(command=_status)
    state.add_argument("--out", required=True, metavar="FOLDER", help="folder of results")
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("--out", required=True, metavar="FOLDER", help="folder for the results, a path or a URL of s3:// or gs://")
    option("--url", default="localhost:8001", help="gRPC of the server (%(default)s)")
    option("--k", type=int, default=Options.k, help="tags for each picture (%(default)s)")
    option("--concurrency", type=int, default=Options.concurrency, metavar="N", help="batches under way (%(default)s)")
    option("--rate", type=float, metavar="N", help="most pictures a second, of all shards together (default: no limit)")
    option("--shard", type=_shard, default=Options.shard, metavar="I/N", help="do part I, I+N, ..., from 0 (all)")
    option("--keep-going", type=float, default=Options.keep_going, help="share of errors that stops it (%(default)s)")
    option("--same-release", action="store_true", help="stop when another release answers")
    option("--repository", default="model_repository", help="the server's; it names the encoder (%(default)s)")
    connection.add_options(parser)


def _run(given: argparse.Namespace) -> int:
    options = options_of(given)
    manifest = read_manifest(place(given.manifest))
    check_columns(manifest.schema.empty_table())
    if given.histories and ("history" in manifest.schema.names or "user" not in manifest.schema.names):
        raise InputError("--histories needs a manifest with a column user, and without a column history")
    keep, out = place(given.encodings) if given.encodings else None, place(given.out)
    if keep and (keep.system, keep.path) == (out.system, out.path):
        raise InputError(f"--encodings and --out are both {out.text}: expected two folders")
    with _client(given) as client:
        table = encode_table if keep else tag_table
        job = Job(
            manifest=manifest,
            columns=COLUMNS,
            work=partial(table, client=client, k=given.k, root=manifest.root),
            out=out,
            histories=histories(given.histories) if given.histories else None,
            encoders=VisualEncoders(place(given.repository)) if keep else None,
            keep=keep,
        )
        _work(job, options, client)
    return 0


def _rerank(given: argparse.Namespace) -> int:
    folder = place(given.encodings)
    plan = read_plan(folder)
    manifest = read_manifest(folder) if plan else None
    if plan is None or manifest is None or ENCODING.name not in manifest.schema.names:
        raise InputError(f"{folder.text}: expected a folder of encodings, which `run --encodings` keeps")
    if missing := {part_file(number) for number in range(plan.parts)} - {*folder.names()}:
        raise InputError(f"{folder.text}: {len(missing)} of {plan.parts} parts are missing: let `run --encodings` end")
    given.part_rows = plan.part_rows
    options = options_of(given)
    with _client(given) as client:
        job = Job(
            manifest=manifest,
            columns=tuple(KEPT),
            work=partial(rerank_table, client=client, k=given.k),
            out=place(given.out),
            histories=histories(given.histories),
            encoders=VisualEncoders(place(given.repository)),
            encoder_sha256=plan.encodings,
        )
        _work(job, options, client)
    return 0


def options_of(given: argparse.Namespace) -> Options:
    """What `run` and `rerank` share; raises InputError."""
    return Options(
        k=given.k,
        part_rows=given.part_rows,
        concurrency=given.concurrency,
        rate=given.rate,
        shard=given.shard,
        keep_going=given.keep_going,
        same_release=given.same_release,
    )


def _work(job: Job, options: Options, client: TagRecommender) -> None:
    with _stopping() as stop:
        Run(job, options, client, _say, stop).all_parts()


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set, so that batches under way end first; exits as the signal would."""
    stop, signals = threading.Event(), list[int]()

    def ask(number: int, _: object) -> None:
        signals.append(number)
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    except Terminated as error:
        _say(f"stopped: {error}; the same command goes on")
        sys.exit(128 + signals[0])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _client(given: argparse.Namespace) -> TagRecommender:
    return TagRecommender(
        given.url,
        deadline_s=DEADLINE_S,
        channel=Channel(tls=connection.tls(given)),
        headers=connection.headers(given),
    )


def _status(given: argparse.Namespace) -> int:
    found = status(place(given.out))
    plan = found.plan
    releases = ", ".join(f"{release}: {number:,} pictures" for release, number in found.releases.items())
    lines = {
        "parts": f"{found.parts:,} of {plan.parts:,}",
        "pictures": f"{found.rows:,} of {plan.rows:,}",
        "errors": f"{found.errors:,}",
        "releases": releases or "none yet",
        "rate": rate_text(plan.rows - found.rows, found.per_s),
    }
    for name, text in lines.items():
        print(f"{name:9} {printable(text)}")
    return 0


def _shard(text: str) -> tuple[int, int]:
    number, _, shards = text.partition("/")
    try:
        return int(number), int(shards)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected I/N, such as 0/16") from None


def _say(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
