"""A service over HTTP as a process, and a request to it."""

import http.client
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import urlsplit

TIMEOUT_S = 30


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def ask(
    address: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "POST",
    chunked: bool = False,
) -> Answer:
    """Send one request to http://host:port."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, body, dict(headers or {}), encode_chunked=chunked)  # type: ignore[arg-type]
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


@contextmanager
def http_service(command: list[str], environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """A service that uvicorn runs; its address. Nothing may go wrong in it unseen."""
    with subprocess.Popen(
        command, env={**os.environ, **(environment or {})}, stderr=subprocess.PIPE, text=True
    ) as process:
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
