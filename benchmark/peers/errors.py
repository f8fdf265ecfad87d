"""What can go wrong with a peer."""

from export.errors import ExportError


class PeerError(ExportError):
    """A peer cannot be installed, did not start, or answered something else; names it, with its last words."""
