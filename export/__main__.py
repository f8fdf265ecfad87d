"""Publish a checkpoint: `python -m export release CHECKPOINT [--repository model_repository]`."""

import argparse
import sys
from pathlib import Path

from export.errors import ExportError
from export.release import release
from training.errors import TrainingError


def main() -> int:
    """Run one command; 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("release", help="export a checkpoint as the repository's next release")
    command.add_argument("checkpoint", type=Path, help="what `python -m training.train` wrote")
    command.add_argument(
        "--repository", type=Path, default=Path("model_repository"), help="Triton model repository (%(default)s)"
    )
    arguments = parser.parse_args()
    try:
        print(release(arguments.checkpoint, arguments.repository))
    except (ExportError, TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
