"""Turn the log of a Triton that did not start into one error that says what to do."""

import json
import re
from collections.abc import Iterator, Mapping

from deploy.local.errors import BackendAborted, ModelLoadError, PortInUse, ServerStartError

# glog's format: severity, date, time, process, source, then the message, usually as a quoted string with escapes.
LOG_LINE = re.compile(r"^(?P<severity>[IWEF])\d{4} \S+ +\d+ (?P<source>[\w.]+:\d+)\] +(?P<message>.*)$")
SOCKET_IN_USE = re.compile(r"Socket '(?P<address>.*):(?P<port>\d+)' already in use")
MODEL_FAILURES = (
    re.compile(r"^failed to load '(?P<model>[^']+)' version (?P<version>\d+): (?P<reason>.*)", re.DOTALL),
    re.compile(r"^failed to load model '(?P<model>[^']+)': (?P<reason>.*)", re.DOTALL),
    re.compile(r"^Poll failed for model directory '(?P<model>[^']+)': (?P<reason>.*)", re.DOTALL),
    # The reason of the model that it depends on follows; that model has its own line.
    re.compile(r"^.*(?P<reason>ensemble '(?P<model>[^']+)' .*?)(\. Model .*)?$", re.DOTALL),
)
# The class and the trace of an error in the backend do not help the author of a config.
PYTHON_CLASS = re.compile(r"^(Internal: )?\w+(Error|Exception|Model): ")
PYTHON_TRACE = re.compile(r"\n\nAt:\n.*", re.DOTALL)
# Errors that Triton logs on every machine without a GPU.
HARMLESS = re.compile(r"CudaDriverHelper|CUDA stream|NVML|DCGM")
LOST_LOCK = "boost::interprocess::lock_exception"
OTHER_REASONS = re.compile(r"^error: creating server: |error while loading shared libraries|tritonserver: un")


def start_error(log: str, *, options: Mapping[int, str], repository: str, exit_code: int) -> ServerStartError:
    """Return the error for a server that ended with this log; `options` maps each port to its option."""
    messages = list(_errors(log))
    for message in messages:
        if found := SOCKET_IN_USE.search(message):
            in_use = port_in_use(found["address"], int(found["port"]), options)
            return PortInUse(f"{in_use}; if nothing listens, Triton cannot read a TLS file: give absolute paths")
    if failures := dict(_model_failures(messages, _syntax_errors(log))):
        lines = "".join(f"\n  model '{model}'{reason}" for model, reason in failures.items())
        return ModelLoadError(f"Triton could not load {repository}:{lines}")
    if LOST_LOCK in log:
        return BackendAborted(
            f"Triton ended while starting (exit code {exit_code}): its Python backend lost a lock in shared memory "
            f"({LOST_LOCK}), which happens now and then; start it again"
        )
    reasons = [*(line for line in log.splitlines() if OTHER_REASONS.search(line)), *messages]
    detail = "\n  ".join(reasons or log.splitlines()[-5:] or ["its log is empty"])
    return ServerStartError(f"Triton ended while starting (exit code {exit_code}):\n  {detail}")


def port_in_use(host: str, port: int, options: Mapping[int, str]) -> PortInUse:
    """Return the error for a port that is in use."""
    option = options.get(port, "its option")
    return PortInUse(
        f"port {port} on {host} is in use: stop what listens there, choose another with {option}, "
        f"or let the server choose with --free-ports"
    )


def last_errors(log: str) -> str:
    """Return the last errors in a log, or its last lines if it has none."""
    return "\n  ".join([*_errors(log)][-5:] or log.splitlines()[-5:])


def _errors(log: str) -> Iterator[str]:
    for line in log.splitlines():
        found = LOG_LINE.match(line)
        if found and found["severity"] in "EF" and not HARMLESS.search(line):
            yield _unquoted(found["message"])


def _unquoted(message: str) -> str:
    if not message.startswith('"'):
        return message
    try:
        return json.loads(message, strict=False)
    except json.JSONDecodeError:
        return message


def _model_failures(messages: list[str], syntax_errors: Iterator[str]) -> Iterator[tuple[str, str]]:
    for message in messages:
        for pattern in MODEL_FAILURES:
            if found := pattern.match(message):
                version = found.groupdict().get("version")
                reason = PYTHON_CLASS.sub("", PYTHON_TRACE.sub("", found["reason"])).strip()
                if "failed to read text proto" in reason:
                    reason += f" ({next(syntax_errors, 'no details')})"
                yield found["model"], f"{f' version {version}' if version else ''}: {_explained(reason)}"
                break


def _explained(reason: str) -> str:
    if reason.startswith("at least one version must be available"):
        return "it has no version folder (1/, 2/, ...) with a model in it: export a release first"
    return reason


def _syntax_errors(log: str) -> Iterator[str]:
    """Find protobuf's messages about malformed config.pbtxt files; they name no file, but keep the files' order."""
    return (found[1] for found in re.finditer(r"Error parsing text-format inference.ModelConfig: (.*)", log))
