"""Measure what each design choice gains, and compare with other model servers: `python -m benchmark`.

The results of each section are written to `benchmarks.json` as soon as it is measured; the report is rendered from this
file. Run nothing else on the machine meanwhile.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from altreco_client.cli.pipe import quiet_pipe

from backfill.errors import BackfillError
from benchmark.peers.errors import PeerError
from benchmark.report import read_results, write_report, write_results
from benchmark.sections.arrivals import measure_arrivals
from benchmark.sections.backfill import measure_backfill
from benchmark.sections.cache import measure_cache
from benchmark.sections.canary import measure_canary
from benchmark.sections.client import measure_client
from benchmark.sections.gateway import measure_gateway
from benchmark.sections.images import measure_images
from benchmark.sections.overhead import measure_overhead
from benchmark.sections.peers import measure_peers
from benchmark.sections.precision import measure_precision
from benchmark.sections.quality import measure_quality, trained
from benchmark.sections.shards import measure_shards
from benchmark.sections.split import measure_split
from benchmark.settings import FULL, QUICK, SECTIONS, Settings
from deploy.local import ServerError
from export.errors import ExportError
from measure.kept import ResultsError
from measure.machine import describe_machine, versions
from training.data.synthetic import generate
from training.errors import TrainingError
from training.presets import SIZES

PACKAGES = ("nvidia-pytriton", "onnxruntime", "onnx", "torch", "tritonclient", "numpy", "pillow")
TRAINED = ("quality", "images", "shards")
"""Sections that need a trained model or its data."""

QUICK_FOLDER = Path("build/benchmark-quick")


def main(given: Sequence[str] | None = None) -> int:
    """Measure, write the report and return the exit code: 0, or 1 with the reason on stderr."""
    try:
        with quiet_pipe():
            _run(given)
    except (ExportError, ResultsError, TrainingError, ServerError, PeerError, BackfillError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; finished sections are kept", file=sys.stderr)
        return 130
    return 0


def _run(given: Sequence[str] | None) -> None:
    parser = _parser()
    arguments = parser.parse_args(given)
    if (arguments.checkpoint is None) != (arguments.data is None):
        parser.error("--checkpoint and --data belong together: give both or neither")
    out: Path = arguments.out or (QUICK_FOLDER if arguments.quick else Path("docs"))
    if not arguments.render:
        _measure(arguments, out)
    print(f"wrote {write_report(out)}")


def _measure(arguments: argparse.Namespace, out: Path) -> None:
    settings = QUICK if arguments.quick else FULL
    if arguments.preset:
        settings = replace(settings, preset=arguments.preset)
    if arguments.cache_size is not None:
        settings = replace(settings, cache_size_bytes=arguments.cache_size)
    results = read_results(out)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="altreco-benchmark-") as folder:
        for section in arguments.only or SECTIONS:
            print(f"== {section}", flush=True)
            started = time.monotonic()
            measured = _section(section, settings, arguments, Path(folder))
            minutes = (time.monotonic() - started) / 60
            results[section] = {"conditions": _conditions(section, settings, arguments, minutes), **measured}
            write_results(out, results)
            print(f"   {section}: {minutes:.1f} minutes", flush=True)


def _section(section: str, settings: Settings, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    if section in TRAINED:
        work: Path = arguments.work or (QUICK_FOLDER if arguments.quick else Path("build/benchmark"))
        if section == "shards":
            return measure_shards(settings.rounds, arguments.data or generate(work / "data", settings.data), folder)
        checkpoint, data = (arguments.checkpoint, arguments.data) if arguments.data else trained(settings, work)
        if section == "images":
            return measure_images(settings.images, checkpoint, data, folder)
        return measure_quality(settings, checkpoint, data, folder)
    served = (settings.preset, settings.cache_size_bytes, arguments.repository, folder)
    if section in ("peers", "overhead"):
        race = measure_peers if section == "peers" else measure_overhead
        return race(settings.peers, *served)
    if section == "arrivals":
        return measure_arrivals(settings.arrivals, *served)
    measure = {
        "split": measure_split,
        "precision": measure_precision,
        "cache": measure_cache,
        "client": measure_client,
        "gateway": measure_gateway,
        "backfill": measure_backfill,
        "canary": measure_canary,
    }[section]
    return measure(settings, arguments.repository, folder)


def _conditions(section: str, settings: Settings, arguments: argparse.Namespace, minutes: float) -> dict[str, Any]:
    """Describe the conditions of a measurement, with the command that repeats it."""
    given = {"--preset": arguments.preset, "--cache-size": arguments.cache_size}
    if section in TRAINED:
        given |= {"--checkpoint": arguments.checkpoint, "--data": arguments.data}
    options = "".join(f" {option} {value}" for option, value in given.items() if value is not None)
    return {
        "command": f".venv/bin/python -m benchmark --only {section}{' --quick' * arguments.quick}{options}",
        "minutes": minutes,
        "machine": describe_machine(),
        "versions": versions(PACKAGES),
        "preset": settings.preset,
        "rounds": settings.rounds,
        "window_s": settings.window_s,
        "clients": settings.clients,
        "cache_size_bytes": settings.cache_size_bytes,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmark", description=__doc__)
    option = parser.add_argument
    option("--only", action="append", choices=tuple(SECTIONS), help="section, may be repeated (default: all)")
    option("--render", action="store_true", help="do not measure; write the report from existing results")
    option("--quick", action="store_true", help="a short trial with a small model, written to build/benchmark-quick")
    option("--preset", choices=tuple(SIZES), help="size of the served model (default: paper)")
    option("--cache-size", type=int, metavar="BYTES", help="size of Triton's cache under load (default: 64 MiB)")
    option("--checkpoint", type=Path, help="for quality and images (default: train one in --work)")
    option("--data", type=Path, help="data set that the checkpoint was trained on")
    option("--repository", type=Path, default=Path("model_repository"), help="to copy configs from (%(default)s)")
    option("--work", type=Path, help="folder for the trained model and its data (default: build/benchmark)")
    option("--out", type=Path, help="folder for results and report (default: docs)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
