from collections.abc import Mapping
from pathlib import Path

import pytest
from altreco_client import TLS, AsyncTagRecommender, Channel, InvalidRequest, TagRecommender
from altreco_client.channel import check_headers, check_target

GOOD = ["localhost:8001", "10.0.0.1:1", "[::1]:8001", "triton.prod.svc:65535", "\u00fc.example:8001"]
SEVERAL = [
    "dns:///triton:8001",
    "dns:triton:8001",
    "dns://10.0.0.53/triton:8001",
    "ipv4:10.0.0.1:8001,10.0.0.2:8001",
    "ipv6:[::1]:8001,[fe80::2]:8001",
    "unix:/run/triton.sock",
    "unix:///run/triton.sock",
    "unix:triton.sock",
]


@pytest.mark.parametrize("url", [*GOOD, *SEVERAL])
def test_an_address_is_taken_as_grpc_takes_it(url: str) -> None:
    assert check_target(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8000",
        "grpc://a:1",
        "localhost:8001/v2",
        "localhost",
        "",
        "a:1,b:2",
        "a b:1",
        "a:1\n",
        "localhost:0",
        "localhost:99999",
        "::1:8001",
        "[10.0.0.1]:8001",
        "[::1",
        "ipv4:localhost:8001",
        "ipv4:10.0.0.1",
        "ipv4: 10.0.0.1:8001, 10.0.0.2:8001",
        "ipv4:10.0.0.1:8001,",
        "ipv4:10.0.0.1:8001,10.0.0.2:99999",
        "ipv4:[::1]:8001",
        "ipv6:::1:8001",
        "ipv6:10.0.0.1:8001",
        "dns:///",
        "dns:///triton",
        "dns://10.0.0.53",
        "unix:",
        "unix://run",
        None,
        8001,
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    for make in (TagRecommender, AsyncTagRecommender):
        with pytest.raises(InvalidRequest, match="expected host:port"):
            make(url)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_attempts": 0},
        {"max_message_bytes": 0},
        {"backoff_s": 0},
        {"keepalive_s": -1},
        {"max_reconnect_s": float("nan")},
        {"keepalive_s": 1e10},
        {"backoff_s": float("inf")},
        {"max_attempts": True},
        {"max_message_bytes": 1e6},
        {"max_message_bytes": 2**31},
    ],
)
def test_settings_that_grpc_would_change_silently_are_refused(settings: dict) -> None:
    with pytest.raises(InvalidRequest, match=f"{next(iter(settings))} is .*: expected"):
        Channel(**settings)


def test_channel_arguments_replace_tritonclients_so_the_limits_are_among_them() -> None:
    arguments = dict(Channel(max_message_bytes=1000).client_arguments("localhost:1")["channel_args"])
    assert arguments["grpc.max_send_message_length"] == arguments["grpc.max_receive_message_length"] == 1000
    assert "round_robin" in arguments["grpc.service_config"]


def test_half_a_client_certificate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="belong together"):
        TagRecommender(channel=Channel(tls=TLS(certificate=tmp_path / "a.pem")))


def test_a_missing_certificate_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"cannot read .*ca\.pem: No such file"):
        TagRecommender(channel=Channel(tls=TLS(root_certificates=tmp_path / "ca.pem")))


def test_what_belongs_elsewhere_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"headers is list: expected a dict of names to values"):
        TagRecommender(headers=[("key", "value")])  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match=r"channel is TLS: expected Channel\(\.\.\.\), such as"):
        TagRecommender(channel=TLS())  # type: ignore[arg-type]


def test_header_names_become_lower_case() -> None:
    assert check_headers({"X-Key": "secret value"}) == {"x-key": "secret value"}


@pytest.mark.parametrize(
    "headers",
    [{"": "a"}, {"a b": "c"}, {"grpc-timeout": "1S"}, {"key-bin": "a"}, {"key": "a\nb"}, {"key": "\xe9"}, {"key": 1}],
)
def test_headers_that_grpc_refuses_are_refused_with_words(headers: Mapping[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="expected a name of letters"):
        TagRecommender(headers=headers)
