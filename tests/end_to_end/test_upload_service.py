"""The upload service over a real Triton, a database, and neither, and the colours of its page."""

import io
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.client import odd_server
from tests.end_to_end import http_service
from tests.end_to_end.conftest import Served
from tests.end_to_end.http_service import jpeg
from tests.end_to_end.peak import peak_mib
from tests.end_to_end.upload_service import APP, MAX_PICTURES, NOBODY, SUGGESTIONS, SharedService, upload_service


@pytest.fixture
def address(shared_service: SharedService) -> str:
    return shared_service.without_histories()


def ask(
    address: str, path: str, body: object = b"", headers: dict[str, str] | None = None, *, chunked: bool = False
) -> tuple[int, object]:
    """POST; the status, and the JSON if some comes back."""
    answer = http_service.ask(address, path, body, headers, chunked=chunked)
    return answer.status, answer.json if answer.headers.get("content-type") == "application/json" else None


@pytest.mark.parametrize("headers", [{"Content-Length": str(16 * 1024**2 + 1)}, {"Transfer-Encoding": "chunked"}])
def test_an_upload_over_the_limit_is_refused(address: str, headers: dict[str, str]) -> None:
    # Declared, it is refused before a byte is sent.
    chunked = "Transfer-Encoding" in headers
    body = iter([bytes(16 * 1024**2), b"1"]) if chunked else b""
    assert ask(address, "/api/pictures", body, headers, chunked=chunked)[0] == 413


def test_pictures_are_bounded_and_saved_once(address: str) -> None:
    ids = [ask(address, "/api/pictures", jpeg(seed))[1] for seed in range(MAX_PICTURES + 1)]
    choice = json.dumps({"user": "Ana", "tags": ["sea", "sea"]}).encode()
    headers = {"Content-Type": "application/json"}
    assert ask(address, f"/api/pictures/{ids[0]}/suggestions", choice, headers)[0] == 404
    assert ask(address, f"/api/pictures/{ids[1]}/suggestions", choice, headers)[0] == 200
    assert ask(address, f"/api/pictures/{ids[1]}/save", choice, headers) == (200, {"sea": 1})
    # The answer may have been lost, and the question sent again.
    assert ask(address, f"/api/pictures/{ids[1]}/save", choice, headers) == (200, {"sea": 1})


def counted(address: str) -> dict[tuple[str, int], float]:
    """Suggestions and those accepted, by rank."""
    with urlopen(f"{address}/metrics") as answer:
        text = answer.read().decode()
    found = re.findall(r'altreco_(\w+)_total{.*rank="(\d+)",release="1"} (\S+)', text)
    return {(kind, int(rank)): float(count) for kind, rank, count in found}


def test_a_save_counts_which_of_the_first_suggestions_were_taken(address: str) -> None:
    headers = {"Content-Type": "application/json"}

    def post(action: str, *tags: str) -> Any:
        choice = json.dumps({"user": "Ana", "tags": tags}).encode()
        return ask(address, f"/api/pictures/{name}/{action}", choice, headers)[1]

    before = counted(address)
    name = ask(address, "/api/pictures", jpeg())[1]
    first = [tag["name"] for tag in post("suggestions")["tags"]]
    later = [tag["name"] for tag in post("suggestions", first[0])["tags"]]
    for _ in range(2):  # the second one changes nothing
        post("save", first[0], first[2], *later[-1:], "grandma")
    taken = {1, 3} | ({first.index(later[-1]) + 1} if later[-1] in first else set())
    ranks = range(1, SUGGESTIONS + 1)
    assert {key: count - before.get(key, 0) for key, count in counted(address).items()} == {
        ("suggested", rank): 1 for rank in ranks
    } | {("accepted", rank): float(rank in taken) for rank in ranks}


def test_a_fault_of_the_service_is_a_500_whose_words_are_in_the_log_alone() -> None:
    """Such as to ask a model of four tags for six."""
    choice, headers = json.dumps({"user": "Ana", "tags": []}).encode(), {"Content-Type": "application/json"}
    with odd_server.serving(odd_server.Odd()) as url, upload_service(url, fails=True) as address:
        name = ask(address, "/api/pictures", jpeg())[1]
        answer = http_service.ask(address, f"/api/pictures/{name}/suggestions", choice, headers)
        assert (answer.status, answer.text) == (500, b"Internal Server Error")
        assert ask(address, "/api/pictures", jpeg())[0] == 201


def test_histories_survive_a_restart(tmp_path: Path) -> None:
    choice = json.dumps({"user": "Ana", "tags": ["sea"]}).encode()
    for count in (1, 2):
        with upload_service(NOBODY, f"sqlite:///{tmp_path}/histories.db") as address:
            name = ask(address, "/api/pictures", jpeg())[1]
            headers = {"Content-Type": "application/json"}
            assert ask(address, f"/api/pictures/{name}/save", choice, headers) == (200, {"sea": count})
            with urlopen(f"{address}/api/users") as answer:
                assert json.load(answer) == {"Ana": {"sea": count}, "Ben": {}, "Chloe": {}}


def test_without_a_database_there_are_suggestions_and_nothing_is_half_saved(served: Served) -> None:
    choice, headers = json.dumps({"user": "Ana", "tags": ["sea"]}).encode(), {"Content-Type": "application/json"}
    with upload_service(served.server.grpc_url, f"postgresql://ana:s3cret@{NOBODY}/photos") as address:
        name = ask(address, "/api/pictures", jpeg())[1]
        for _ in range(2):  # the picture is still there to be saved
            status, answer = ask(address, f"/api/pictures/{name}/suggestions", choice, headers)
            assert (status, answer["fallback"], len(answer["tags"])) == (200, False, SUGGESTIONS)  # type: ignore[index]
            status, answer = ask(address, f"/api/pictures/{name}/save", choice, headers)
            assert (status, answer) == (503, {"detail": "Histories cannot be read or saved at the moment."})


@pytest.mark.parametrize(
    ("user", "tag", "expected"),
    [("Eve", "sea", 404), ("Ana", "two\nlines", 422), ("Ana", " ", 422), ("Ana", "\ud800", 422)],
)
def test_a_choice_that_makes_no_sense_is_refused(address: str, user: str, tag: str, expected: int) -> None:
    name = ask(address, "/api/pictures", jpeg())[1]
    choice = json.dumps({"user": user, "tags": [tag]}).encode()
    headers = {"Content-Type": "application/json"}
    for action in ("suggestions", "save"):
        assert ask(address, f"/api/pictures/{name}/{action}", choice, headers)[0] == expected


def test_other_sites_are_refused_and_browsers_told_to_run_nothing_from_elsewhere(address: str) -> None:
    assert ask(address, "/api/pictures", jpeg(), {"Origin": "http://evil.example"})[0] == 403
    assert ask(address, "/api/pictures", jpeg(), {"Origin": address})[0] == 201
    assert ask(address, "/api/pictures", jpeg(), {"Host": "evil.example"})[0] == 400
    with urlopen(address) as answer:
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.slow
def test_of_eight_uploads_at_once_few_are_decoded() -> None:
    file = io.BytesIO()
    Image.new("P", (8000, 4000)).save(file, "PNG")
    of_one_mib = 5 * 32_000_000 / 2**20  # indices, and RGB
    with upload_service(NOBODY) as address, ThreadPoolExecutor(8) as pool:
        [service] = [process for process in psutil.Process().children() if "app:app" in process.cmdline()]
        before = peak_mib(service.pid)
        found = pool.map(lambda _: ask(address, "/api/pictures", file.getvalue())[0], range(8))
        assert set(found) == {201}
        # More than two, because the allocator keeps some of what is freed.
        assert peak_mib(service.pid) < before + 5 * of_one_mib


def test_an_upload_of_few_bytes_and_much_memory_is_refused(address: str) -> None:
    file = io.BytesIO()
    Image.new("1", (6000, 6000)).save(file, "PNG")
    assert ask(address, "/api/pictures", file.getvalue())[0] == 422


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("text", "ground"),
    [("ink", "tint"), ("on-accent", "accent")]
    + [("quiet", ground) for ground in ("ground", "card", "tint", "line")]
    + [(text, "card") for text in ("accent", "alarm")]
    + [("accent", "tint"), ("alarm", "ground")],
)
def test_text_has_contrast(text: str, ground: str, scheme: int) -> None:
    """4.5:1 or more (WCAG 2.2, 1.4.3)."""
    pairs = re.findall(r"--([\w-]+): light-dark\(#(\w+), #(\w+)\)", (APP / "page" / "style.css").read_text())
    colours = {name: schemes[scheme] for name, *schemes in pairs}
    darker, lighter = sorted(luminance(colours[name]) for name in (text, ground))
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def luminance(colour: str) -> float:
    """WCAG's relative luminance of rgb or rrggbb."""
    digits = colour if len(colour) == 6 else "".join(digit * 2 for digit in colour)
    channels = np.array([int(digits[place : place + 2], 16) for place in (0, 2, 4)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
