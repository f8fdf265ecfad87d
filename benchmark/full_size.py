"""Make a model repository to load: the paper's size, random weights, the committed configs. They take no longer."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from benchmark.contestants import folded
from export.errors import ExportError
from training.presets import SIZES


def main() -> int:
    """Make it whole, or leave what is there; 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.full_size", description=__doc__)
    parser.add_argument("folder", type=Path, help="of the repository; one that is there is replaced")
    parser.add_argument("--configs", type=Path, default=Path("model_repository"), help="where they are (%(default)s)")
    parser.add_argument("--preset", choices=tuple(SIZES), default="paper", help="of the model (%(default)s)")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as work:
            made = folded(arguments.preset, arguments.configs, Path(work))
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
    except (ExportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
