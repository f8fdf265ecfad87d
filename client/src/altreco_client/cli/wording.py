"""The client's messages in the words of the command line."""

from __future__ import annotations

from collections.abc import Mapping

OPTIONS = {
    'pass unknown_tags="ignore"': "pass --unknown-tags ignore",
    "deadline_s": "--deadline-s",
    "pass it in headers": "pass it with --header",
    "at TLS(...) in Channel": "at --ca, --certificate and --key",
    "(TLS(...) in Channel)": "(--tls, --ca, --certificate, --key)",
    ", or raise max_pixels": "",
    ": raise max_bytes": ": scale it down",
    ", or raise max_message_bytes": "",
    " If it is, raise max_message_bytes": "",
    "pass use_proxy=True in Channel": "pass --use-proxy",
    "request_id ": "--request-id ",
    "give keep, min_count or both": "give --keep, --min-count or both",
    "min_count is": "--min-count is",
    "prune(keep=...) keeps it small": "`altreco history prune --keep N` keeps it small",
    "the output of TagHistory.to_json": "a file that `altreco history` wrote",
}
"""Phrases of the client's messages with names from Python, and what the command line has in their place."""


def in_options(message: object, phrases: Mapping[str, str] = OPTIONS) -> str:
    """An error's message, with options of the command line, or other `phrases`, in place of Python's names."""
    text = str(message)
    for phrase, option in phrases.items():
        text = text.replace(phrase, option)
    return text
