"""Debian's Prometheus over local servers, with the committed config: only targets, intervals and paths differ."""

import json
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.local.process import NotReady, free_port, running, wait_until_ready
from deploy.monitoring.prometheus_rule import MONITORING

SUMMARIES = "--metrics-config=summary_latencies=true"
"""Triton's flag without which the alerts on latency see nothing."""
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
HTTP_TIMEOUT_S = 30.0


class PrometheusError(RuntimeError):
    """It is not installed, did not start, or refused a query; the message says which, and what to do."""


@dataclass(frozen=True)
class Prometheus:
    """One that is ready."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of this moment. Raises PrometheusError."""
        return self._get("query", query=expression)["result"]

    def rules(self) -> list[dict[str, Any]]:
        """All rules with their state and health. Raises PrometheusError."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def _get(self, path: str, **parameters: str | float) -> Any:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=HTTP_TIMEOUT_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise PrometheusError(f"Prometheus refuses {parameters}: {error.read().decode()}") from error
        except OSError as error:
            raise PrometheusError(f"Prometheus does not answer at {url}: {error}") from error


def local_config(targets: Mapping[str, Sequence[str]], *, interval_s: int) -> dict[str, Any]:
    """The committed config for these targets, a job each, that scrapes and evaluates every `interval_s`."""
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    (scrape,) = config["scrape_configs"]
    config["global"] = dict.fromkeys(config["global"], f"{interval_s}s")
    config["rule_files"] = [str(MONITORING / "rules" / Path(pattern).name) for pattern in config["rule_files"]]
    config["scrape_configs"] = [
        {**scrape, "job_name": job, "static_configs": [{"targets": list(addresses)}]}
        for job, addresses in targets.items()
    ]
    return config


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, Sequence[str]], *, interval_s: int = 1) -> Iterator[Prometheus]:
    """A Prometheus over host:port addresses by job, with its data in `folder`. Raises PrometheusError."""
    executable = shutil.which("prometheus")
    if executable is None:
        raise PrometheusError("no prometheus on the PATH: install Debian's package `prometheus`")
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(local_config(targets, interval_s=interval_s)))
    address = f"127.0.0.1:{free_port()}"
    command = [executable, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    command.append(f"--web.listen-address={address}")
    with running(command, log_path=folder / "prometheus.log", stop_timeout_s=STOP_TIMEOUT_S) as process:
        try:
            wait_until_ready(process, lambda: _problem(f"http://{address}/-/ready"), START_TIMEOUT_S)
        except NotReady as error:
            end = process.log()[-1000:]
            raise PrometheusError(f"Prometheus did not start ({error.problem}); the end of its log:\n{end}") from error
        yield Prometheus(f"http://{address}")


def _problem(url: str) -> str | None:
    """What is wrong; None once it answers."""
    try:
        with urllib.request.urlopen(url, timeout=HTTP_TIMEOUT_S):
            return None
    except OSError as error:
        return str(error)
