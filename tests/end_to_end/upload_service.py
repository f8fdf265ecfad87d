"""The upload service of client/examples as a process, and a headless Chromium to look at it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from playwright.sync_api import Browser, sync_playwright

from tests.tools import require

APP = Path(__file__).parents[2] / "client" / "examples" / "upload_service"
UVICORN = Path(sys.executable).with_name("uvicorn")


@contextmanager
def upload_service(triton_url: str) -> Iterator[str]:
    """The service on a free port of loopback; its address. Nothing may go wrong in it unseen."""
    command = [str(UVICORN), "app:app", "--app-dir", str(APP), "--port", "0"]
    command += ["--no-access-log", "--timeout-graceful-shutdown", "10"]
    environment = {**os.environ, "ALTRECO_URL": triton_url}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            yield _address(process.stderr)
        finally:
            process.terminate()
            log = process.stderr.read()
    assert "Traceback" not in log, log


def _address(log: IO[str]) -> str:
    lines = []
    for line in log:
        lines.append(line)
        if found := re.search(r"Uvicorn running on (http://\S+)", line):
            return found[1]
    raise AssertionError(f"the service did not start:\n{''.join(lines)}")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's browser."""
    executable = require("chromium")
    with sync_playwright() as playwright:
        # Without its sandbox, Playwright's default: root may not have one.
        browser = playwright.chromium.launch(executable_path=executable)
        try:
            yield browser
        finally:
            browser.close()
