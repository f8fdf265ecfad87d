"""Measure everything that needs a GPU: `python -m benchmark.gpu` (`make gpu`), or `--only STAGE`.

A stage takes at most about eight minutes. Its results are written to `gpu.json` as soon as it is measured, and the
report to `benchmarks.md`. A stage with results from this machine and these settings is skipped, unless `--again` is
given. No network is needed. With `--cpu` (`make gpu GPU=0`) all stages run on a CPU at tiny size, to show that they
work.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from altreco_client.cli.pipe import quiet_pipe

from benchmark.gpu.environment import ONNXRUNTIME, TORCH, TRITON, Found, GpuError, look, problems
from benchmark.gpu.raw import measure_copies, measure_raw, measure_tensorrt
from benchmark.gpu.report import FORMAT, RESULTS
from benchmark.gpu.repositories import Place
from benchmark.gpu.serving import (
    measure_batching,
    measure_cache,
    measure_instances,
    measure_rates,
    measure_served,
)
from benchmark.gpu.settings import GPU, STAGES, TINY, GpuSettings
from benchmark.gpu.training import measure_training
from benchmark.report import write_report
from deploy.local import ServerError
from export.errors import ExportError
from measure.kept import ResultsError, read_results, write_results
from measure.machine import describe_machine, versions
from training.errors import TrainingError

Measure = Callable[[GpuSettings, Place, Found], dict[str, Any]]

MEASURES: dict[str, tuple[Measure, tuple[str, ...]]] = {
    "raw": (measure_raw, (ONNXRUNTIME,)),
    "tensorrt": (measure_tensorrt, (ONNXRUNTIME,)),
    "served": (measure_served, (ONNXRUNTIME, TRITON)),
    "batching": (measure_batching, (ONNXRUNTIME, TRITON)),
    "instances": (measure_instances, (ONNXRUNTIME, TRITON)),
    "rates": (measure_rates, (ONNXRUNTIME, TRITON)),
    "cache": (measure_cache, (ONNXRUNTIME, TRITON)),
    "copies": (measure_copies, (ONNXRUNTIME,)),
    "training": (measure_training, (TORCH,)),
}
"""Function that measures each stage but the check, and what it needs."""

ERRORS = (GpuError, ExportError, ResultsError, ServerError, TrainingError, OSError)
PACKAGES = ("nvidia-pytriton", "onnx", "torch", "tritonclient", "numpy")


def main(given: Sequence[str] | None = None) -> int:
    """Measure, write the report and return the exit code: 0, or 1 with a line on stderr for each stage that failed."""
    arguments = _parser().parse_args(given)
    try:
        with quiet_pipe():
            return _run(arguments)
    except ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; finished stages are kept, and the same command continues with the next one", file=sys.stderr)
        return 130


def _run(arguments: argparse.Namespace) -> int:
    settings = TINY if arguments.cpu else GPU
    work: Path = arguments.work or Path("build/gpu-tiny" if arguments.cpu else "build/gpu")
    out: Path = arguments.out or (work / "out" if arguments.cpu else Path("docs"))
    out.mkdir(parents=True, exist_ok=True)
    results = read_results(out / RESULTS, FORMAT)
    found = look()
    missing = problems(found, gpu=not arguments.cpu)
    print(f"found {found}", *(f"error: {line}" for line in dict.fromkeys(missing.values())), sep="\n", flush=True)
    place = Place(gpu=not arguments.cpu, configs=arguments.repository, work=work)
    gpu = found.gpus[0] if place.gpu and found.gpus else "no GPU"
    conditions = {"machine": f"{gpu}; {describe_machine()}", "settings": repr(settings)}
    stages = arguments.only or tuple(STAGES)
    failed = [stage for stage in stages if stage == "check" and missing]
    for stage in stages:
        print(f"== {stage}", flush=True)
        kept = results.get(stage, {}).get("conditions", {})
        if stage != "check" and not arguments.again and conditions.items() <= kept.items():
            print(f"   kept from before in {out / RESULTS}; --again measures it again", flush=True)
            continue
        started = time.monotonic()
        try:
            measured = _stage(stage, settings, place, found, missing)
        except ERRORS as error:
            print(f"error: stage {stage}: {error}", file=sys.stderr)
            failed.append(stage)
            continue
        minutes = (time.monotonic() - started) / 60
        results[stage] = {"conditions": {**conditions, "minutes": minutes, "versions": versions(PACKAGES)}, **measured}
        write_results(out / RESULTS, FORMAT, results)
        print(f"   {stage}: {minutes:.1f} minutes", flush=True)
    print(f"wrote {write_report(out)}")
    return 1 if failed else 0


def _stage(stage: str, settings: GpuSettings, place: Place, found: Found, missing: Any) -> dict[str, Any]:
    if stage == "check":
        return {"found": str(found), "parts": asdict(found), "problems": [*dict.fromkeys(missing.values())]}
    measure, needs = MEASURES[stage]
    if lacking := [missing[need] for need in needs if need in missing]:
        raise GpuError(lacking[0])
    return measure(settings, place, found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = parser.add_argument
    option("--only", action="append", choices=tuple(STAGES), help="stage to run; may be repeated (default: all)")
    option("--again", action="store_true", help="measure stages again that have results")
    option("--cpu", action="store_true", help="run all stages at tiny size on a CPU, into build/")
    option("--repository", type=Path, default=Path("model_repository"), help="to copy configs from (%(default)s)")
    option("--work", type=Path, help="folder for models, engines and pictures (default: build/gpu)")
    option("--out", type=Path, help="folder for results and report (default: docs)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
