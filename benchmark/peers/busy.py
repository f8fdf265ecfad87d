"""A process that keeps a core busy for a share of the time: `python -m benchmark.peers.busy SHARE`."""

import sys
import time

PERIOD_S = 0.01


def main() -> None:
    """Work and sleep in turn, until the process is killed."""
    share = float(sys.argv[1])
    while True:
        started = time.perf_counter()
        while time.perf_counter() - started < share * PERIOD_S:
            pass
        time.sleep((1 - share) * PERIOD_S)


if __name__ == "__main__":
    main()
