import json
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def committed() -> dict[str, Any]:
    """The results that docs/benchmarks.md was rendered from: they measured everything."""
    return json.loads((DOCS / "benchmarks.json").read_text())
