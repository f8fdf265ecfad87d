import socket

import altreco_client
import pytest
from altreco_client import InvalidRequest, TagRecommender, Unavailable
from altreco_client.__main__ import main


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_public_names_exist_and_are_sorted() -> None:
    assert altreco_client.__all__ == sorted(altreco_client.__all__)
    for name in altreco_client.__all__:
        assert getattr(altreco_client, name).__module__.startswith("altreco_client.")


@pytest.mark.parametrize("url", ["http://localhost:8000", "localhost:8001/v2"])
def test_a_url_with_scheme_or_path_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="expected host:port"):
        TagRecommender(url)


def test_a_deadline_must_be_positive() -> None:
    with pytest.raises(InvalidRequest, match="deadline_s"):
        TagRecommender(deadline_s=0)


def test_no_server_is_unavailable_not_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    url = closed_port()
    with TagRecommender(url) as recommender:
        assert not recommender.ready()
        with pytest.raises(Unavailable, match=f"no server answers at {url}"):
            recommender.recommend(b"", {})
    assert main(["vocabulary", "--url", url]) == 1
    assert f"error: no server answers at {url}" in capsys.readouterr().err
