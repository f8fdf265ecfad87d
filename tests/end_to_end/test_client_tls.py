"""TLS and mutual TLS against Triton's own: what works, and what each mistake is called."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from altreco_client import TLS, Channel, InvalidRequest, TagRecommender, TLSFailed

from tests.end_to_end.conftest import Served
from tests.end_to_end.faults import (
    HISTORY,
    WAIT_S,
    Certificates,
    asking,
    make_certificates,
    picture,
    within,
)
from tests.servers import serving

both = pytest.mark.parametrize("kind", ["sync", "asyncio"])
QUICKLY_S = 1.0
"""A handshake that fails does so in milliseconds, also at the last attempt; nobody waits for WAIT_S to hear of it."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def urls(served: Served, certificates: Certificates) -> Iterator[dict[str, str]]:
    """Servers over one repository: without TLS, with it, with an expired certificate, with another host's, mutual."""
    with (
        serving(served.repository, extra_args=certificates.server_flags("server")) as tls,
        serving(served.repository, extra_args=certificates.server_flags("expired")) as expired,
        serving(served.repository, extra_args=certificates.server_flags("other-host")) as other_host,
        serving(served.repository, extra_args=certificates.server_flags("server", mutual=True)) as mutual,
    ):
        yield {
            "plain": served.server.grpc_url,
            "HTTP": served.server.http_url.removeprefix("http://"),
            "TLS": tls.grpc_url,
            "expired": expired.grpc_url,
            "other host": other_host.grpc_url,
            "mutual": mutual.grpc_url,
        }


def tls(certificates: Certificates, authority: str = "ca", client: str | None = None) -> TLS:
    return TLS(
        root_certificates=certificates.pem(authority),
        certificate=certificates.pem(client) if client else None,
        private_key=certificates.key(client) if client else None,
    )


@both
@pytest.mark.parametrize(("server", "client"), [("TLS", None), ("TLS", "client"), ("mutual", "client")])
def test_a_trusted_server_answers(
    urls: dict[str, str], certificates: Certificates, kind: str, server: str, client: str | None
) -> None:
    channel = Channel(tls=tls(certificates, client=client))
    with asking(kind, urls[server], channel=channel, deadline_s=WAIT_S) as ask:
        assert len(ask(picture(), HISTORY).tags) == 5


@both
@pytest.mark.parametrize(
    ("server", "authority", "client", "reason", "advice"),
    [
        ("TLS", "other-ca", None, "CERTIFICATE_VERIFY_FAILED: self signed certificate", "certificate"),
        ("expired", "ca", None, "certificate has expired", "dates"),
        ("other host", "ca", None, "Hostname Verification Check failed", "names"),
        ("plain", "ca", None, "WRONG_VERSION_NUMBER", "TLS"),
        ("TLS", None, None, "Socket closed", "does it want TLS"),
        ("mutual", None, None, "Socket closed", "does it want TLS"),
        ("mutual", "ca", None, "Socket closed", "client certificate"),
        ("mutual", "ca", "stranger", "Socket closed", "client certificate"),
        ("mutual", "other-ca", "client", "CERTIFICATE_VERIFY_FAILED", "CA"),
        ("HTTP", None, None, "Socket closed", "its gRPC port"),
    ],
)
def test_each_mistake_is_named_quickly(
    urls: dict[str, str],
    certificates: Certificates,
    kind: str,
    server: str,
    authority: str | None,
    client: str | None,
    reason: str,
    advice: str,
) -> None:
    channel = Channel(tls=tls(certificates, authority, client) if authority else None)
    with (
        asking(kind, urls[server], channel=channel, deadline_s=WAIT_S) as ask,
        within(QUICKLY_S),
        pytest.raises(TLSFailed) as caught,
    ):
        ask(picture(), HISTORY)
    assert reason in str(caught.value)
    assert advice in str(caught.value)


def test_a_request_id_or_host_name_makes_no_tls_failure() -> None:
    with TagRecommender("tls-certificate.invalid:8001", deadline_s=1) as recommender:
        answer = recommender.recommend(picture(), HISTORY, request_id="ssl-handshake", fallback="history")
    assert answer.fallback is not None
    assert not isinstance(answer.fallback, TLSFailed)


def test_files_are_checked_when_the_client_is_made(certificates: Certificates, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("no certificate")
    for wrong, message in (
        (TLS(root_certificates=tmp_path / "missing.pem"), "cannot read .*missing.pem"),
        (TLS(root_certificates=garbage), "garbage.pem"),
        (TLS(certificate=certificates.pem("client")), "belong together"),
        (TLS(certificate=certificates.pem("client"), private_key=garbage), "garbage.pem"),
    ):
        with pytest.raises(InvalidRequest, match=message):
            TagRecommender("localhost:8001", channel=Channel(tls=wrong))
