"""The examples in the client's docstrings and in its README do what they say."""

import asyncio
import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import altreco_client
import numpy as np
import pdoc
import pytest
from PIL import Image

from tests.end_to_end.conftest import Served

MODULES = [module.name for module in pkgutil.walk_packages(altreco_client.__path__, "altreco_client.")]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    Image.fromarray(np.full((300, 400, 3), 120, dtype=np.uint8)).save(path)
    return path


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_the_docstrings(served: Served, photo: Path, name: str) -> None:
    module = importlib.import_module(name)
    names = {"asyncio": asyncio, "url": served.server.grpc_url, "photo": photo, **vars(altreco_client)}
    failed, _ = doctest.testmod(module, extraglobs=names)
    assert not failed


def test_there_are_examples_of_all_that_a_service_calls() -> None:
    finder = doctest.DocTestFinder()
    shown = {
        test.name
        for module in (altreco_client.sync, altreco_client.aio, altreco_client.history)
        for test in finder.find(module)
        if test.examples
    }
    for name in ("TagRecommender.recommend", "TagRecommender.recommend_batch", "AsyncTagRecommender", "TagHistory.add"):
        assert any(example.endswith(name) for example in shown), name


def test_the_reference_shows_code_as_code_and_settings_as_lists(tmp_path: Path) -> None:
    pdoc.pdoc("altreco_client", "altreco_client.errors", output_directory=tmp_path)
    errors = (tmp_path / "altreco_client" / "errors.html").read_text()
    assert "|- InvalidImage" in "".join(re.findall(r"<pre>.*?</pre>", errors, re.DOTALL))
    client = (tmp_path / "altreco_client.html").read_text()
    assert client.index("<pre>") < client.index("is the same for asyncio")
    listed = "".join(re.findall(r"<li>.*", client))
    for kind in (altreco_client.ClientSettings, altreco_client.Options, altreco_client.Channel):
        for name in kind.__annotations__:
            assert f'<code><a href="#{kind.__name__}.{name}">' in listed


@pytest.mark.parametrize("readme", ["README.md", "client/README.md", "docs/histories.md", "docs/canary.md"])
def test_python_of_the_readmes(
    served: Served, photo: Path, readme: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(photo.parent)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / readme).read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        code = block.replace("localhost:8001", served.server.grpc_url)
        exec(compile(code, readme, "exec"), {})
    assert capsys.readouterr().out.count("tag-") == 5 * len(blocks)
