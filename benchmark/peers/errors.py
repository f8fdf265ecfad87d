"""Errors of the peers."""

from export.errors import ExportError


class PeerError(ExportError):
    """A peer cannot be installed, did not start or answered wrongly. Has the peer's name and the end of its log."""
