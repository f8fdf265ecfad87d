"""A service over HTTP as a process, a request to it, and a photo to send."""

import http.client
import io
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

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
def http_service(
    command: list[str], environment: Mapping[str, str] | None = None, *, fails: bool = False
) -> Iterator[str]:
    """A service that uvicorn runs; its address. Nothing may go wrong in it unseen, and with `fails`, something must."""
    with subprocess.Popen(
        command, env={**os.environ, **(environment or {})}, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            yield _address(process.stderr)
        finally:
            process.terminate()
            log = process.stderr.read()
    assert ("Traceback" in log) == fails, log


def _address(log: IO[str]) -> str:
    lines = []
    for line in log:
        lines.append(line)
        if found := re.search(r"Uvicorn running on (http://\S+)", line):
            return found[1]
    raise AssertionError(f"the service did not start:\n{''.join(lines)}")


def jpeg(seed: int = 0) -> bytes:
    """A blurred picture of 400 x 300."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((400, 300)).save(file, "JPEG")
    return file.getvalue()
