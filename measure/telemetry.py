"""Switches that keep dependencies from reporting their use. Import this before what it switches off."""

import os
from collections.abc import Mapping

OFF: Mapping[str, str] = {
    # ONNX Runtime, whose Linux wheel reports since 1.29. It reads this once, when it is loaded.
    "ORT_DISABLE_TELEMETRY": "1",
    # Hugging Face's libraries, which send the versions of installed packages with each download.
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
"""Environment variables; child processes inherit them, the stubs of a local Triton too."""

os.environ.update(OFF)
