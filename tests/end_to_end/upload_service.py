"""The upload service of client/examples as a process, and a headless Chromium to look at it."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from altreco_client.histories import Histories
from playwright.sync_api import Browser, sync_playwright

from tests.end_to_end.http_service import http_service
from tests.tools import require

APP = Path(__file__).parents[2] / "client" / "examples" / "upload_service"
UVICORN = Path(sys.executable).with_name("uvicorn")
SUGGESTIONS = 6
MAX_PICTURES = 48
NOBODY = "127.0.0.1:9"


@dataclass(frozen=True)
class SharedService:
    """A service for several tests, and its database."""

    address: str
    store: str

    def without_histories(self) -> str:
        """Its address, once it has forgotten all users."""
        with Histories(self.store) as histories:
            for user in ("Ana", "Ben", "Chloe"):
                histories.forget(user)
        return self.address


def upload_service(
    triton_url: str, histories: str = "sqlite://", *, fails: bool = False
) -> AbstractContextManager[str]:
    """The service on a free port of loopback; its address."""
    command = [str(UVICORN), "app:app", "--app-dir", str(APP), "--port", "0"]
    command += ["--no-access-log", "--timeout-graceful-shutdown", "10"]
    return http_service(command, {"ALTRECO_URL": triton_url, "UPLOAD_STORE": histories}, fails=fails)


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
