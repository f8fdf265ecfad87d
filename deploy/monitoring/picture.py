"""Draws docs/dashboard.png from the dashboard's JSON and a real Prometheus over a real load; Grafana is not run.

python -m deploy.monitoring.picture [--repository build/full_size]: about two and a half minutes.
"""

import argparse
import tempfile
import time
from pathlib import Path

from deploy.local import on_free_ports, serve
from deploy.monitoring.dashboard import panels
from deploy.monitoring.drawing import Answer, draw
from deploy.monitoring.local import SUMMARIES, Prometheus, prometheus
from deploy.monitoring.traffic import asking, burst
from measure.pictures import save_png

JOB = "altreco/tag-recommender"
PICTURE = Path("docs/dashboard.png")
PHASES_S = (("one caller", 1, 45.0), ("four callers", 4, 45.0), ("one caller", 1, 45.0))
"""Between the second and the third, albums of eight from 32 callers at once that wait 20 ms at most."""
BURSTS_S = 10.0
BURST_REQUESTS = 40
PICTURES = 40
STEP_S = 1.0
RATE_INTERVAL = "10s"


def load(url: str) -> None:
    """Ask as PHASES_S says."""
    picture = 2**20
    for name, callers, seconds in PHASES_S:
        print(f"{name}: {seconds:g} s")
        with asking(url, callers=callers, pictures=PICTURES):
            time.sleep(seconds)
            if callers > 1:
                until = time.monotonic() + BURSTS_S
                while time.monotonic() < until:
                    print(f"impatient albums: {dict(burst(url, BURST_REQUESTS, picture))}")
                    picture += BURST_REQUESTS


def answers(source: Prometheus, start_s: float, end_s: float) -> list[Answer]:
    """Every panel, each with the series of each of its queries."""
    return [
        Answer(
            panel,
            tuple(source.query_range(target.expression, start_s, end_s, STEP_S) for target in panel.targets),
        )
        for panel in panels(job=JOB, rate_interval=RATE_INTERVAL)
    ]


def main() -> None:
    """Serve, ask, scrape, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, default=Path("build/full_size"), help="a release's")
    parser.add_argument("--into", type=Path, default=PICTURE)
    arguments = parser.parse_args()
    settings = on_free_ports(arguments.repository, strict=True, extra_args=(SUMMARIES,))
    with tempfile.TemporaryDirectory() as folder, serve(settings) as server:
        target = server.metrics_url.removeprefix("http://").removesuffix("/metrics")
        with prometheus(Path(folder), {JOB: [target]}) as source:
            start_s = time.time()
            load(server.grpc_url)
            drawn = answers(source, start_s, time.time())
    save_png(draw(drawn), arguments.into)
    print(arguments.into)


if __name__ == "__main__":
    main()
