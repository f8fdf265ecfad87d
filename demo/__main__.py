"""Run the whole path from data to recommendations: `python -m demo`. Finished steps are reused."""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from altreco_client import AltrecoError, TagRecommender
from altreco_client.cli.pipe import quiet_pipe

from demo.contact_sheet import METHODS, PRECISION, write_contact_sheet
from demo.recommend import EXPLANATION, Row, recommend_rows
from deploy.local import ServerError, on_free_ports, serve
from export.errors import ExportError
from export.release import release
from training.checkpoint import Checkpoint
from training.data.histories import build_histories
from training.data.manifest import read_manifest
from training.data.synthetic import SyntheticSettings, generate
from training.errors import TrainingError
from training.presets import preset
from training.train import train_unless_done

BUILD = Path("build/demo")
REPOSITORY = Path("model_repository")
DATA = SyntheticSettings(new_users=30)
TRAINING = preset("small")


@quiet_pipe()
def main() -> int:
    """Run all steps; 0, or 1 with the reason on stderr."""
    argparse.ArgumentParser(prog="python -m demo", description=__doc__).parse_args()
    try:
        _run()
    except (AltrecoError, TrainingError, ExportError, ServerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; finished steps are reused next time", file=sys.stderr)
        return 130
    return 0


def _run() -> None:
    with _timed("data"):
        data = generate(BUILD / "data", DATA)
    with _timed("train"):
        checkpoint = train_unless_done(TRAINING, data, BUILD / "small.pt")
    with _timed("export"):
        print(release(BUILD / "small.pt", REPOSITORY))
    with _timed("serve and recommend"):
        rows = _recommended(data)
    for row in rows:
        print(f"\n{row}")
    print(f"\n{EXPLANATION}\n")
    sheet = BUILD / "recommendations.png"
    with _timed("contact sheet"):
        write_contact_sheet(rows, checkpoint.metrics, sheet)
    print(f"\n{_figures(checkpoint)}\n\nThe same as a picture: {sheet}\n{_what_next(data, rows[0])}")


def _recommended(data: Path) -> list[Row]:
    """Start a Triton, ask it, and stop it."""
    manifest = read_manifest(data)
    settings = on_free_ports(REPOSITORY, strict=True, stop_timeout_s=0)
    with serve(settings) as server, TagRecommender(server.grpc_url) as recommender:
        print(f"Triton is ready on {server.grpc_url}")
        return recommend_rows(recommender, manifest, build_histories(manifest))


def _figures(checkpoint: Checkpoint) -> str:
    """Precision@5 of the model, and of late fusion of its answers without history. New users are not in training."""
    measured = checkpoint.metrics
    lines = [f"  {measured[method][PRECISION]:.3f}  {name}" for name, method in METHODS.items() if method in measured]
    return "\n".join([f"{PRECISION} on the test pictures (new users: not in the training data):", *lines])


def _what_next(data: Path, row: Row) -> str:
    history = ",".join(f"{tag}:{count:g}" for tag, count in list(row.answers[0].history.items())[:5])
    return f"""
Try next:
  make serve                                     # keeps a Triton running on localhost:8001; then, in another terminal:
  .venv/bin/altreco recommend {row.image} --history {history}
  .venv/bin/python -m training.evaluate {BUILD / "small.pt"} --data {data}"""


@contextmanager
def _timed(step: str) -> Iterator[None]:
    print(f"== {step}", flush=True)
    start = time.monotonic()
    yield
    print(f"   {step}: {time.monotonic() - start:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
