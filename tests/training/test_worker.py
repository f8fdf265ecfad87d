"""A command that is killed leaves none of its worker processes behind."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

LOADER = """
import numpy as np
from pathlib import Path
from training.data.dataset import evaluation_batches
from training.data.histories import build_histories
from training.data.manifest import read_manifest
manifest = read_manifest(Path(sys.argv[1]))
working = evaluation_batches(manifest, build_histories(manifest), np.arange(5), workers=2, batch_size=1)
next(working)
"""
DRAWING = """
from pathlib import Path
from training.data import synthetic
synthetic._draw_one = print
working = synthetic._draw_each(Path(sys.argv[1]), [1, 2, 3], processes=2)
next(working)
"""
DECODING = """
from training.data.importers.images import _pool
working = _pool(decode=True)
working.submit(len, ()).result()
"""
MAIN = """
import sys
if __name__ == "__main__":
    {body}
    print("at work", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.parametrize("body", [LOADER, DRAWING, DECODING], ids=["loader", "drawing", "decoding"])
def test_workers_end_with_a_killed_command(body: str, root: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(MAIN.format(body=body.strip().replace("\n", "\n    ")))
    command = [sys.executable, str(program), str(root)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        try:
            assert process.stdout is not None
            assert any("at work" in line for line in process.stdout)
            started = psutil.Process(process.pid).children(recursive=True)
            assert len(started) >= 2
        finally:
            process.kill()
    _, alive = psutil.wait_procs(started, timeout=30)
    assert alive == []
