"""Triton's own reason for a failed start, out of its log."""

import re

# Printed on every machine without a GPU; never the reason.
HARMLESS = re.compile(r"NVML|DCGM|CUDA|pinned memory|nvidia|GPU metrics", re.IGNORECASE)
ERROR = re.compile(r"^E\d{4} [\d:.]+ \d+ \S+\] (.*)$|^error: (.*)$", re.MULTILINE)
# A row of the table of models that did not load: name, version, UNAVAILABLE: reason, wrapped over several rows.
FAILED_MODEL = re.compile(r'failed to load "([^"]+)" version (\d+): (.+?)(?=\n[IWE]\d{4} |\Z)', re.DOTALL)
LAST_LINES = 15


def failure_message(log: str) -> str:
    """One readable message: the models that failed and why, else the errors, else the log's last lines."""
    failed = {f"model {name!r} version {version}": _first_line(why) for name, version, why in FAILED_MODEL.findall(log)}
    if failed:
        return "Triton did not start. " + "; ".join(f"{model}: {why}" for model, why in failed.items())
    errors = [next(filter(None, groups)) for groups in ERROR.findall(log)]
    errors = [line.strip('"') for line in errors if not HARMLESS.search(line)]
    if errors:
        return "Triton did not start. " + "; ".join(dict.fromkeys(errors))
    return "Triton did not start. The end of its log:\n" + "\n".join(log.splitlines()[-LAST_LINES:])


def _first_line(reason: str) -> str:
    """Without the traceback that Triton adds to a Python backend's error."""
    lines = [line for line in reason.replace("\\n", "\n").splitlines() if line.strip()]
    return lines[0].strip().strip('"')
