"""What one request may cost: its body's size and time, and the number of requests at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect

from .problems import RETRY_AFTER

HEAD_BYTES = 16 * 1024
"""Most bytes of a request's query and headers together."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The gateway's limits.

    - `body_bytes`: largest body.
    - `body_s`: longest time for a body to arrive, in seconds.
    - `requests`: most requests with a body at once; each may hold `body_bytes` of memory.
    - `decoded_at_once`: most pictures that are decoded at once.
    """

    body_bytes: int = 16 * 1024**2
    body_s: float = 10.0
    requests: int = 32
    decoded_at_once: int = 2


@dataclass
class Room:
    """The requests with a body that are under way."""

    limits: Limits
    taken: int = field(default=0)

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """Take a place until the end of the block, and read the body. Raises HTTPException 408, 413 or 429."""
        if self.taken >= self.limits.requests:
            full = f"{self.taken} requests are under way, the gateway's limit: ask again later, or add replicas"
            raise HTTPException(429, full, RETRY_AFTER)
        self.taken += 1
        try:
            yield await self._read(request)
        finally:
            self.taken -= 1

    async def _read(self, request: Request) -> bytes:
        most = self.limits.body_bytes
        too_large = HTTPException(413, f"the body is larger than {most:,} bytes: scale the picture down")
        declared = request.headers.get("Content-Length", "0")
        if declared.isdecimal() and int(declared) > most:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.body_s):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > most:
                        raise too_large
        except TimeoutError as error:
            slow = f"the body did not arrive within {self.limits.body_s:g} s: send it again"
            raise HTTPException(408, slow, {"Connection": "close"}) from error
        except ClientDisconnect as error:
            raise HTTPException(400, "the connection ended before the body did") from error  # for the metrics alone
        return bytes(body)
