"""The admin key and private keys: who may read their files, and where they are sent."""

import argparse
from pathlib import Path

import pytest
from altreco_client import TLS, InvalidRequest

from deploy.access import ADMIN_KEY, Access, access_of, add_access_options, is_loopback

LOOPBACK = ["localhost:8001", "127.0.0.1:8001", "127.9.9.9:1", "[::1]:8001", "unix:/run/triton.sock"]
LOOPBACK += ["dns:///localhost:8001", "ipv4:127.0.0.1:8001,127.0.0.2:8001", "ipv6:[::1]:8001"]
ELSEWHERE = ["tags.example:8001", "10.0.0.1:8001", "[::2]:8001", "0.0.0.0:8001", "localhost.example:8001"]
ELSEWHERE += ["dns:///tags.example:8001", "ipv4:127.0.0.1:8001,10.0.0.1:8001"]


def read(*options: str | Path) -> Access:
    parser = argparse.ArgumentParser()
    add_access_options(parser)
    return access_of(parser.parse_args([str(option) for option in options]))


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text("0123456789abcdef\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("url", LOOPBACK)
def test_the_key_stays_on_this_machine_without_tls(key: Path, url: str) -> None:
    assert is_loopback(url)
    read("--admin-key-file", key).recommender(url).close()


@pytest.mark.parametrize("url", ELSEWHERE)
def test_the_key_goes_nowhere_else_without_tls(key: Path, url: str) -> None:
    for access in (read("--admin-key-file", key), read("--header", f"{ADMIN_KEY}=0123456789abcdef")):
        for connect in (access.connect, access.recommender):
            with pytest.raises(InvalidRequest, match=r"the admin key would go to .* unencrypted: give --tls or --ca"):
                connect(url)
    Access(tls=TLS(), headers=((ADMIN_KEY, "x"),)).connect(url).close()
    Access(headers=(("other", "x"),)).connect(url).close()


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602])
def test_a_secret_that_other_users_may_read_is_refused(key: Path, mode: int) -> None:
    key.chmod(mode)
    for options in (("--admin-key-file", key), ("--certificate", key, "--key", key)):
        with pytest.raises(InvalidRequest, match=f"{options[-2]} {key} has mode {mode:04o}, .* run `chmod 600 {key}`"):
            read(*options)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o440])
def test_its_owner_and_group_may_read_it(key: Path, mode: int) -> None:
    key.chmod(mode)
    assert dict(read("--admin-key-file", key).headers) == {ADMIN_KEY: "0123456789abcdef"}
