"""`altreco gateway` over a real Triton."""

import base64
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from altreco_client import TagHistory, TagRecommender
from altreco_client.cli.main import parser
from altreco_client.gateway.limits import HEAD_BYTES
from altreco_client.histories import Histories

from measure.waiting import wait_until
from tests.end_to_end.conftest import Served
from tests.end_to_end.faults import stopped
from tests.end_to_end.gateway import HISTORY, JSON, PHOTO, failed, tags
from tests.end_to_end.http_service import TIMEOUT_S, Answer, ask, http_service
from tests.end_to_end.printed import ROOT, commands, run
from tests.end_to_end.upload_service import chromium
from tests.tools import require

LIMIT = 16 * 1024**2


@pytest.fixture(scope="module")
def gateway(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`altreco gateway` with a store in which Zo\u00eb has HISTORY; its address."""
    store = f"sqlite:///{tmp_path_factory.mktemp('store')}/histories.db"
    with Histories(store) as histories:
        histories.set_counts(("Zo\u00eb", tag, count) for tag, count in HISTORY.items())
    command = [sys.executable, "-m", "altreco_client", "gateway", "--port", "0", "--deadline-s", "30"]
    with http_service([*command, "--url", served.server.grpc_url, "--store", store]) as address:
        yield address


def as_json(**more: Any) -> bytes:
    return json.dumps({"image": base64.b64encode(PHOTO).decode(), **more}).encode()


def test_all_ways_to_ask_get_the_clients_tags_and_scores(gateway: str, recommender: TagRecommender) -> None:
    expected = recommender.recommend(PHOTO, TagHistory({**HISTORY, "zeppelin": 2}), k=4)
    history = quote(json.dumps({**HISTORY, "zeppelin": 2}))
    answers = [
        tags(gateway, f"?k=4&history={history}"),
        tags(gateway, headers=JSON, body=as_json(history={**HISTORY, "zeppelin": 2}, k=4)),
    ]
    for answer in answers:
        assert answer.status == 200
        assert answer.json == {
            "tags": [{"name": tag.name, "score": tag.score} for tag in expected.tags],
            "release": expected.model_version,
            "unknown": ["zeppelin"],
            "fallback": None,
        }
    stored = tags(gateway, "?k=4", {"X-User": "Zo\u00eb".encode().decode("latin-1")})
    assert stored.json == {**answers[0].json, "unknown": []}
    stranger, nobody = tags(gateway, headers={"X-User": "Ben"}), tags(gateway)
    assert stranger.json == nobody.json != stored.json


REFUSED = [
    ("/v1/tags", b"GIF89a, or so", {}, 422, "InvalidImage", ""),
    ("/v1/tags", PHOTO[:1000], {}, 422, "InvalidImage", "truncated"),
    ("/v1/tags", b"", {}, 422, "InvalidImage", "it is empty"),
    ("/v1/tags?history=sea", PHOTO, {}, 422, "InvalidHistory", 'expected JSON such as {"sea": 3}'),
    ("/v1/tags?history=%7B%22sea%22:-1%7D", PHOTO, {}, 422, "InvalidHistory", "zero or more"),
    ("/v1/tags?history=%7B%22zep%22:1%7D&unknown_tags=error", PHOTO, {}, 422, "UnknownTag", "unknown_tags=ignore"),
    ("/v1/tags?k=0", PHOTO, {}, 422, "InvalidRequest", "query.k: "),
    ("/v1/tags?k=9999", PHOTO, {}, 422, "InvalidRequest", "9999"),
    ("/v1/tags?history=%7B%7D", PHOTO, {"X-User": "Ben"}, 422, "InvalidRequest", "more than once"),
    ("/v1/tags", PHOTO, {"X-User": "Zo\u00eb"}, 422, "InvalidRequest", "expected UTF-8"),
    ("/v1/tags", PHOTO, {"X-Request-Timeout": "0"}, 422, "InvalidRequest", "header.x-request-timeout: "),
    ("/v1/tags", PHOTO, {"X-Request-Timeout": "nan"}, 422, "InvalidRequest", "header.x-request-timeout: "),
    ("/v1/tags", PHOTO, {"X-Request-Id": "two words"}, 422, "InvalidRequest", "X-Request-Id: expected"),
    ("/v1/tags", b"{", JSON, 422, "InvalidRequest", "body: Invalid JSON"),
    ("/v1/tags", b'{"image": "!"}', JSON, 422, "InvalidRequest", "body.image: "),
    ("/v1/tags", b'{"image": "", "url": "http://a"}', JSON, 422, "InvalidRequest", "body.url: "),
    ("/v1/tags", b'{"image": "\\ud800"}', JSON, 422, "InvalidRequest", ""),
    ("/v1/tags", PHOTO, {"Content-Type": "multipart/form-data; boundary=a"}, 415, "UnsupportedMediaType", "curl"),
    ("/v1/tags", b' {"image": ""}', {"Content-Type": "text/plain"}, 415, "UnsupportedMediaType", "application/json"),
    ("/v1/tags?K=3", PHOTO, {}, 422, "InvalidRequest", "query.K: "),
    ("/v1/tags", PHOTO, {"Origin": "http://evil.example"}, 403, "OtherSite", "other sites"),
    ("/v1/nowhere", b"", {}, 404, "NotFound", ""),
    ("/healthz", b"", {}, 405, "MethodNotAllowed", ""),
    ("/v1/accepted", b'{"release": "x", "suggested": ["a"], "accepted": []}', JSON, 422, "InvalidRequest", "release"),
    ("/v1/accepted", b'{"release": "1", "suggested": [], "accepted": []}', JSON, 422, "InvalidRequest", "suggested"),
    ("/v1/accepted", b'{"release":"1","suggested":["a"],"accepted":["\\n"]}', JSON, 422, "InvalidHistory", "one line"),
]


@pytest.mark.parametrize(("path", "body", "headers", "status", "error", "words"), REFUSED)
def test_a_bad_request_is_refused_in_the_clients_words(
    gateway: str, path: str, body: bytes, headers: dict[str, str], status: int, error: str, words: str
) -> None:
    assert words in failed(ask(gateway, path, body, headers), status, error)


def test_what_is_not_there_and_other_names_of_the_gateway_are_refused(gateway: str) -> None:
    failed(ask(gateway, "/v1/nowhere", method="GET"), 404, "NotFound")
    failed(ask(gateway, "/v1/tags", method="GET"), 405, "MethodNotAllowed")
    assert tags(gateway, headers={"Host": "evil.example"}).status == 400


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_17_mb_is_refused(gateway: str, chunked: bool) -> None:
    if chunked:
        answer = ask(gateway, "/v1/tags", iter([bytes(LIMIT), bytes(1024**2)]), chunked=True)
    else:  # before a byte is sent
        answer = ask(gateway, "/v1/tags", b"", {"Content-Length": str(17 * 1024**2)})
    assert "16,777,216 bytes" in failed(answer, 413, "BodyTooLarge")


def test_headers_and_queries_have_a_limit(gateway: str) -> None:
    long = "a" * HEAD_BYTES
    for answer in (tags(gateway, f"?history={long}"), tags(gateway, headers={"X-User": long})):
        assert "16,384 bytes" in failed(answer, 431, "HeadTooLarge")
    assert tags(gateway, f"?history={quote(json.dumps({'a' * 900: 1}))}").status == 200


def test_a_request_keeps_its_id_and_has_one_otherwise(gateway: str) -> None:
    assert tags(gateway, headers={"X-Request-Id": "upload-4711"}).headers["x-request-id"] == "upload-4711"
    assert re.fullmatch("[0-9a-f]{32}", tags(gateway).headers["x-request-id"])


def test_health_vocabulary_and_the_document(gateway: str, recommender: TagRecommender) -> None:
    health = ask(gateway, "/healthz", method="GET")
    assert (health.status, health.json) == (200, {"ready": True})
    assert ask(gateway, "/v1/vocabulary", method="GET").json == {"tags": list(recommender.vocabulary.tags)}
    # `altreco gateway --openapi` prints it.
    assert ask(gateway, "/openapi.json", method="GET").json == json.loads(
        (ROOT / "client" / "openapi.json").read_text()
    )


def metric(address: str, name: str, *labels: str) -> float:
    """The sum of the series whose line has all these labels."""
    lines = ask(address, "/metrics", method="GET").text.decode().splitlines()
    series = [line for line in lines if line.startswith(f"{name}{{") and all(label in line for label in labels)]
    return sum(float(line.rpartition(" ")[2]) for line in series)


def test_what_users_accept_is_counted_by_release_and_rank(gateway: str) -> None:
    answer = tags(gateway).json
    names = [tag["name"] for tag in answer["tags"]]
    taken = json.dumps({"release": answer["release"], "suggested": names, "accepted": [names[1], "grandma"]})
    fallback = json.dumps({"release": None, "suggested": ["sea"], "accepted": ["sea"]})
    for body in (taken, taken, fallback):
        assert ask(gateway, "/v1/accepted", body.encode(), JSON).status == 204
    for rank in range(1, 6):
        labels = (f'rank="{rank}"', f'release="{answer["release"]}"')
        assert metric(gateway, "altreco_suggested_total", *labels) == 2
        assert metric(gateway, "altreco_accepted_total", *labels) == (2 if rank == 2 else 0)
    assert metric(gateway, "altreco_accepted_total", 'release="fallback"', 'rank="1"') == 1


def test_requests_and_calls_are_measured(gateway: str) -> None:
    ok = ("http_server_request_duration_seconds_count", 'http_route="/v1/tags"', 'http_response_status_code="200"')
    calls = ("altreco_client_call_duration_seconds_count", 'altreco_method="recommend"')
    before = metric(gateway, *ok), metric(gateway, *calls)
    tags(gateway)
    assert (metric(gateway, *ok), metric(gateway, *calls)) == (before[0] + 1, before[1] + 1)
    within = metric(gateway, "altreco_client_call_duration_seconds_bucket", 'le="10.0"')
    assert within > 0, "bounds in seconds"


def test_the_page_suggests_tags_and_shows_the_command(gateway: str, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(PHOTO)
    with chromium() as browser, browser.new_context() as context:
        page, complaints = context.new_page(), list[str]()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(gateway)
        page.get_by_label("Photo").set_input_files(photo)
        page.get_by_label("History").fill(json.dumps({**HISTORY, "zeppelin": 1}))
        page.get_by_role("button", name="Suggest tags").click()
        page.locator("#tags li").nth(4).wait_for()
        assert "The model does not know: zeppelin." in page.locator("#note").inner_text()
        command = page.locator("#command").inner_text()
        assert re.match(rf"curl --data-binary @photo.jpg '{gateway}/v1/tags\?k=5&history=\S+'$", command)
        assert complaints == [], complaints
        page.get_by_label("History").fill("sea")
        page.get_by_role("button", name="Suggest tags").click()
        page.get_by_text("expected JSON such as").wait_for()


@pytest.mark.parametrize("document", ["docs/gateway.md", "README.md"])
def test_the_printed_curl_commands_get_answers(gateway: str, tmp_path: Path, document: str) -> None:
    require("curl")
    for photo in ("photo.jpg", "build/demo/data/images/000000.jpg"):
        (tmp_path / photo).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / photo).write_bytes(PHOTO)
    for command in commands((ROOT / document).read_text()):
        if command.startswith(".venv/bin/altreco gateway"):
            parser().parse_args(command.split()[1:])
        elif command.startswith("curl "):
            said = run(
                command.replace("curl", "curl --silent --show-error --fail-with-body", 1).replace(
                    "localhost:8080", gateway
                ),
                tmp_path,
            )
            assert ("/v1/tags" in command) == bool(said), command
            assert "/v1/tags" not in command or json.loads(said)["tags"]


def test_the_printed_javascript_gets_the_same_answer_in_both_ways(gateway: str, tmp_path: Path) -> None:
    (program,) = re.findall(r"```js\n(.*?)```", (ROOT / "docs" / "gateway.md").read_text(), re.DOTALL)
    (tmp_path / "photo.jpg").write_bytes(PHOTO)
    (tmp_path / "ask.mjs").write_text(program.replace("http://localhost:8080", gateway))
    done = subprocess.run(
        [require("node"), "ask.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    )
    one, other = re.findall(r"^200 (\{.*?^\})", done.stdout, re.DOTALL | re.MULTILINE)
    assert one == other
    assert one.count("name: ") == 3


def test_a_server_that_hangs_is_a_timeout_and_a_fallback_has_the_users_own_tags(gateway: str, served: Served) -> None:
    assert tags(gateway).status == 200
    history, soon = quote(json.dumps(HISTORY)), {"X-Request-Timeout": "0.3"}
    answers: list[Answer] = []

    def fell_back() -> bool:
        """The gateway gives up half a second after its client does, and a busy machine may pause for longer."""
        answers.append(tags(gateway, f"?history={history}&fallback=history", soon))
        return answers[-1].status == 200

    with stopped(served.server):
        assert "X-Request-Timeout" in failed(tags(gateway, headers=soon), 504, "DeadlineExceeded")
        wait_until(fell_back, "the fallback", seconds=TIMEOUT_S)
    own = answers[-1].json
    assert [tag["name"] for tag in own["tags"]] == ["tag-1", "tag-2"]
    assert own["release"] is None
    assert "did not answer" in own["fallback"]
