"""Progress bars on a terminal; in a log, a line now and then."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

LOG_EVERY_S = 30.0
LOG_LINE = "{desc}: {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]\n"


def progress_bar(items: Iterable[Any] | None = None, title: str = "", **options: Any) -> tqdm:
    """Create a tqdm bar with tqdm's options; where stderr is not a terminal, it writes a line every LOG_EVERY_S."""
    if not sys.stderr.isatty():
        options |= {"mininterval": LOG_EVERY_S, "miniters": 1, "bar_format": LOG_LINE}
    return tqdm(items, title, **options)
