"""What protects a service on loopback from pages of other sites."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import Request

LOOPBACK = ("localhost", "127.0.0.1")
"""Names of a service on loopback. Others would let another site's page reach it by DNS rebinding."""

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
"""Headers that tell browsers to run nothing from elsewhere."""


def from_other_site(request: Request) -> bool:
    """Whether a page of another site sends this request, and not only a link to this one."""
    origin = request.headers.get("Origin")
    return request.method != "GET" and bool(origin) and urlsplit(origin).netloc != request.headers.get("Host")
