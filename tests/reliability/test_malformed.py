"""malformed.py, shorter than for the report."""

from pathlib import Path

from reliability.malformed import HISTORIES, KINDS, malformed_requests


def test_malformed_requests_of_every_kind_harm_nobody(repository: Path) -> None:
    outcome = malformed_requests(repository, requests=8 * len(KINDS), window_s=1)
    assert outcome.missed == []
    assert set(KINDS) <= set(outcome.figures)
    sent = {kind: sum(int(part.split()[0]) for part in outcome.figures[kind].split(", ")) for kind in KINDS}
    assert sent == dict.fromkeys(KINDS, 8)
    assert outcome.figures["histories that the client refuses to send"] == ", ".join(HISTORIES)
