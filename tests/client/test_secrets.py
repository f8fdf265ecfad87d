"""Keys and tokens: in no repr, and never sent unencrypted because of an empty option."""

import pytest
from altreco_client import TagRecommender
from altreco_client.__main__ import main
from altreco_client.call.context import ClientState, internal_context
from altreco_client.call.flow import Call
from altreco_client.settings import Settings

SECRET = {"authorization": "Bearer s3cret"}


def test_no_repr_shows_headers() -> None:
    settings = Settings(url="localhost:1", headers=SECRET)
    context = internal_context(ClientState(settings))
    with TagRecommender("localhost:1", headers=SECRET) as recommender:
        shown = (recommender, settings, context, context.request, Call("infer", {"headers": SECRET}))
        assert "s3cret" not in repr(shown)


@pytest.mark.parametrize("option", ["--ca", "--certificate", "--key"])
def test_an_empty_file_name_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vocabulary", "--url", "localhost:1", option, "", "--header", "authorization=s3cret"]) == 1
    said = capsys.readouterr().err
    assert "expected the name of a file, found an empty one" in said
    assert "s3cret" not in said
