"""Errors of the peers."""

from export.errors import ExportError


class PeerError(ExportError):
    """A peer cannot be installed, did not start or answered wrongly; the message names it and ends with its log."""
