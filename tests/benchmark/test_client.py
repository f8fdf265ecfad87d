import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmark.sections.client import IMPORTS, render_client
from benchmark.sections.gateway import render_gateway

UNWANTED = ("gevent", "geventhttpclient", "aiohttp", "opentelemetry", "tritonclient.http")


def test_importing_the_client_loads_no_http_and_nothing_optional(tmp_path: Path) -> None:
    program = "import altreco_client, json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    loaded = json.loads(done.stdout)
    assert "tritonclient.grpc" in loaded
    assert not [name for name in loaded if name.startswith(UNWANTED)]


def test_the_report_shows_what_the_client_costs_round_by_round(committed: dict[str, Any]) -> None:
    conditions = {"preset": "small", "rounds": 2}
    times = {"tritonclient": [4.0, 5.0], "altreco_client": [4.2, 5.1]}
    flight = {"requests": 256, "seconds": 3.21, "threads_more": 7}
    lines = render_client({**committed["client"], "conditions": conditions, "ms": times, "in_flight": flight})
    assert {
        "| a call: `tritonclient` | 4.5 (4 to 5) |",
        "| a call: `altreco_client` | 4.65 (4.2 to 5.1) |",
    } <= set(lines)
    text = "\n".join(lines)
    assert "Ours takes 3.5 (2 to 5) % longer." in text
    assert "256 requests in flight at once" in text
    assert "were all answered in 3.2 s, with 7 additional threads." in text
    assert all(f" ms to run `{program}`" in text for program in IMPORTS)
    assert lines[-1] == ""


def test_the_report_shows_what_the_gateway_costs() -> None:
    of_client = {"p50_ms": [20.0, 22.0], "p99_ms": [40.0, 40.0], "requests_per_s": [700.0, 720.0]}
    of_gateway = {"p50_ms": [23.0, 26.0], "p99_ms": [50.0, 50.0], "requests_per_s": [600.0, 620.0]}
    turns = {"altreco_client": of_client, "gateway": of_gateway}
    of_client, of_gateway = ({"p50_ms": [value], "p99_ms": [9.0]} for value in (4.0, 5.5))
    calm = {"rate_per_s": 200.0, "turns": {"altreco_client": of_client, "gateway": of_gateway}}
    of_client, of_gateway = ({"p50_ms": [p50], "p99_ms": [99.0], "requests_per_s": [80.0]} for p50 in (195.0, 197.0))
    apart = {"cores": [1, 3], "turns": {"altreco_client": of_client, "gateway": of_gateway}}
    lines = render_gateway({"turns": turns, "open": calm, "apart": apart})
    assert "The gateway's p50 less the client's is 3.5 (3 to 4) ms." in lines[0]
    assert "| `gateway` | 24.5 (23 to 26) | 50 (50 to 50) | 610 (600 to 620) |" in lines
    text = "\n".join(lines)
    assert "200 per second, a third of the gateway's highest rate" in text
    assert "The gateway's p50 less the client's is 1.5 (1.5 to 1.5) ms." in text
    assert "1 core for Triton alone, and 3 cores for the 16 callers and the gateway." in text
    assert "The gateway's p50 less the client's is 2 (2 to 2) ms." in text
