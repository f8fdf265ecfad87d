import base64
import io
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import psutil
import pytest
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, FilePayload, Locator, Page, expect

from tests.end_to_end import http_service
from tests.end_to_end.conftest import Served
from tests.end_to_end.peak import peak_mib
from tests.end_to_end.upload_service import APP, chromium, upload_service

SUGGESTIONS = 6
MAX_PICTURES = 48
NOBODY = "127.0.0.1:9"
TIMEOUT_S = http_service.TIMEOUT_S


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=TIMEOUT_S * 1000)
    with chromium() as browser:
        yield browser


@pytest.fixture
def address(served: Served) -> Iterator[str]:
    with upload_service(served.server.grpc_url) as address:
        yield address


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What Chromium's console calls an error; a test takes out what it provokes."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def page(browser: Browser, complaints: list[str]) -> Iterator[Page]:
    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    with browser.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_S * 1000)
        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page


def jpeg(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((400, 300)).save(file, "JPEG")
    return file.getvalue()


def choose(page: Page, data: bytes) -> None:
    page.get_by_label("Choose a photo").set_input_files(FilePayload(name="a.jpg", mimeType="image/jpeg", buffer=data))


def suggestions(page: Page) -> Locator:
    return page.locator("#suggestions").get_by_role("button")


def names(page: Page) -> list[str]:
    """The suggestions, best first, once they have come."""
    expect(suggestions(page)).to_have_count(SUGGESTIONS)
    expect(page.locator("#suggestions.waiting")).to_have_count(0)
    return suggestions(page).locator("b").all_inner_texts()


def shares(page: Page) -> list[tuple[float, float]]:
    """Return each suggestion's score for the photo alone and its score with the history."""
    titles = [suggestion.get_attribute("title") or "" for suggestion in suggestions(page).all()]
    found = [re.fullmatch(r"(\S+) for the photo alone, (\S+) with the history", title) for title in titles]
    assert all(found), titles
    return [(float(match[1]), float(match[2])) for match in found if match]


def pick(page: Page, tag: str) -> None:
    with page.expect_response("**/suggestions"):
        page.get_by_role("button", name=f"Pick {tag}", exact=True).click()


def add(page: Page, tag: str) -> None:
    with page.expect_response("**/suggestions"):
        page.get_by_label("Add a tag of your own").fill(tag)
        page.keyboard.press("Enter")


def save(page: Page) -> None:
    with page.expect_response("**/save"):
        page.get_by_role("button", name="Save photo").click()
    expect(page.locator("#picked li")).to_have_count(0)


def history(page: Page) -> list[list[str]]:
    """Tag, +1 while it is only picked, count before; most frequent first."""
    return [row.split("\n") for row in page.locator("#history li").all_inner_texts()]


def test_suggestions_follow_each_users_own_history(page: Page, address: str) -> None:
    page.goto(address)
    choose(page, jpeg())
    cold = names(page)
    alone = dict(zip(cold, shares(page), strict=True))
    assert all(photo == score for photo, score in alone.values()), "without a history all comes from the photo"
    pick(page, cold[0])
    expect(page.get_by_role("button", name=f"Pick {cold[0]}", exact=True)).to_have_count(0)
    live = names(page)
    with_history = dict(zip(live, shares(page), strict=True))
    assert all(with_history[tag][0] == alone[tag][0] for tag in alone.keys() & with_history.keys())
    assert live != cold[1:] + live[-1:], "a picked tag must change more than the place that it leaves"
    assert history(page) == [[cold[0], "+1"]]
    add(page, "grandma")
    expect(page.locator("#picked li")).to_have_text([cold[0], "grandma"])
    expect(page.locator("#picked li.unknown")).to_have_text(["grandma"])
    save(page)
    expect(page.locator("#saved li")).to_have_count(1)
    assert sorted(history(page)) == sorted([[cold[0], "1"], ["grandma", "1"]])
    expect(page.locator("#history li.unknown")).to_have_text(["grandma1"])

    choose(page, jpeg())
    warm = names(page)
    assert warm != cold
    pick(page, warm[0])
    save(page)
    counts = {tag: int(count) for tag, count in history(page)}
    assert sum(counts.values()) == 3
    page.get_by_role("button", name=f"Open again: {cold[0]}, grandma").click()
    names(page)
    with page.expect_response("**/suggestions"):
        page.get_by_label("Ben").check()
    expect(page.locator("#history li")).to_have_count(0)
    assert names(page) == cold


def test_a_tag_can_be_taken_back_and_all_works_by_keyboard(page: Page, address: str) -> None:
    page.goto(address)
    choose(page, jpeg())
    cold = names(page)
    suggestions(page).first.focus()
    for _ in range(2):
        pressed = names(page)[0]
        with page.expect_response("**/suggestions"):
            page.keyboard.press("Enter")
        expect(page.get_by_role("button", name=f"Remove {pressed}", exact=True)).to_be_visible()
        names(page)
        expect(page.locator("#suggestions button:focus")).to_have_count(1)
    while (chips := page.locator("#picked button")).count():
        with page.expect_response("**/suggestions"):
            chips.first.press("Enter")
    assert names(page) == cold
    expect(page.get_by_role("button", name="Save photo")).to_be_disabled()


def test_a_dropped_photo_and_the_vocabulary_while_typing(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.locator("#vocabulary option")).to_have_count(1540)
    transfer = page.evaluate_handle(
        """base64 => {
          const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], "dropped.jpg", { type: "image/jpeg" }));
          return transfer;
        }""",
        base64.b64encode(jpeg()).decode(),
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    names(page)
    expect(page.get_by_alt_text("The photo dropped.jpg")).to_be_visible()


def test_a_broken_file_is_explained_and_leaves_the_photo(page: Page, address: str, complaints: list[str]) -> None:
    page.goto(address)
    choose(page, jpeg())
    tag = names(page)[0]
    pick(page, tag)
    before = names(page)
    choose(page, jpeg()[:1000])
    expect(page.get_by_role("alert")).to_contain_text("This file is not a photo (JPEG, PNG")
    refused(complaints, 422)
    expect(page.get_by_alt_text("The photo a.jpg")).to_be_visible()
    expect(page.locator("#picked li")).to_have_text([tag])
    assert names(page) == before
    choose(page, jpeg(1))
    expect(page.locator("#picked li")).to_have_count(0)
    names(page)
    expect(page.locator("#problem")).to_be_empty()


def test_a_phone_has_room_for_the_page_which_says_what_to_click(page: Page, address: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(address)
    expect(page.locator("#picked-hint")).to_have_text("Choose a photo first.")
    choose(page, jpeg())
    tag = names(page)[0]
    expect(page.locator("#suggestions-hint")).to_contain_text("Click one to use it.")
    expect(page.locator("#picked-hint")).to_contain_text("click a suggestion")
    pick(page, tag)
    expect(page.locator("#picked-hint")).to_be_hidden()
    add(page, "a-long-tag-of-one-word-" + "x" * 40)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


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


def test_a_photo_over_the_limit_is_explained(page: Page, address: str, complaints: list[str]) -> None:
    page.goto(address)
    choose(page, bytes(16 * 1024**2 + 1))
    expect(page.get_by_role("alert")).to_contain_text("larger than the service takes")
    refused(complaints, 413)


def test_without_triton_there_is_a_message_then_the_users_own_tags(page: Page, complaints: list[str]) -> None:
    with upload_service(NOBODY) as address:
        page.goto(address)
        with page.expect_response("**/suggestions"):
            choose(page, jpeg())
        explained = page.get_by_role("alert").filter(has_text="No suggestions at the moment")
        expect(explained).to_be_visible()
        expect(explained).not_to_contain_text(NOBODY)
        add(page, "sea")
        expect(explained).to_be_visible()
        save(page)
        refused(complaints, 503)
        choose(page, jpeg(1))
        expect(suggestions(page).locator("b")).to_have_text(["sea"])
        expect(page.locator("#suggestions-hint.warning")).to_contain_text("Your own most frequent tags")


BAD_GATEWAY = "<html><h1>502 Bad Gateway</h1></html>"


@contextmanager
def failing(page: Page, path: str, complaints: list[str], *, lost: bool = False) -> Iterator[Locator]:
    """A proxy that answers for the service, or no network; the alert. Afterwards all is well again."""
    if lost:
        page.route(path, lambda route: route.abort())
    else:
        page.route(path, lambda route: route.fulfill(status=502, content_type="text/html", body=BAD_GATEWAY))
    yield page.get_by_role("alert")
    words = "The service cannot be reached. " if lost else "The service did not answer (502). "
    expect(page.get_by_role("alert")).to_have_text(f"{words}Try again")
    page.unroute(path)
    assert all("502" in complaint or "ERR_FAILED" in complaint for complaint in complaints), complaints
    complaints.clear()


@pytest.mark.parametrize("lost", [False, True], ids=["502", "no network"])
def test_the_page_recovers_from_every_failed_request(
    page: Page, address: str, complaints: list[str], lost: bool
) -> None:
    again = page.get_by_role("button", name="Try again")
    with failing(page, "**/api/users", complaints, lost=lost):
        page.goto(address)
    again.click()
    expect(page.get_by_role("radio", name="Ana")).to_be_checked()
    expect(page.locator("#vocabulary option")).to_have_count(1540)
    with failing(page, "**/api/pictures", complaints, lost=lost):
        choose(page, jpeg())
    again.click()
    tag = names(page)[0]
    with failing(page, "**/suggestions", complaints, lost=lost):
        page.get_by_role("button", name=f"Pick {tag}", exact=True).click()
    expect(page.locator("#picked li")).to_have_text([tag])
    again.click()
    names(page)
    with failing(page, "**/save", complaints, lost=lost):
        page.get_by_role("button", name="Save photo").click()
    expect(page.get_by_role("button", name="Save photo")).to_be_enabled()
    expect(page.locator("#picked li")).to_have_text([tag])
    again.click()
    expect(page.locator("#saved li")).to_have_count(1)
    expect(page.locator("#problem")).to_be_empty()
    assert history(page) == [[tag, "1"]]


def test_a_photo_that_the_service_has_lost_is_sent_again(page: Page, address: str, complaints: list[str]) -> None:
    page.goto(address)
    choose(page, jpeg())
    tag = names(page)[0]
    for seed in range(1, MAX_PICTURES + 1):
        assert ask(address, "/api/pictures", jpeg(seed))[0] == 201
    pick(page, tag)
    names(page)
    expect(page.locator("#problem")).to_be_empty()
    expect(page.locator("#picked li")).to_have_text([tag])
    refused(complaints, 404)


def refused(complaints: list[str], status: int) -> None:
    """Chromium reports every refused request as an error; take these out, and be sure that there were some."""
    assert complaints
    assert all(f"status of {status}" in complaint for complaint in complaints), complaints
    complaints.clear()


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


def test_a_save_counts_which_of_the_first_suggestions_were_taken(address: str) -> None:
    headers = {"Content-Type": "application/json"}

    def post(action: str, *tags: str) -> Any:
        choice = json.dumps({"user": "Ana", "tags": tags}).encode()
        return ask(address, f"/api/pictures/{name}/{action}", choice, headers)[1]

    name = ask(address, "/api/pictures", jpeg())[1]
    first = [tag["name"] for tag in post("suggestions")["tags"]]
    later = [tag["name"] for tag in post("suggestions", first[0])["tags"]]
    for _ in range(2):  # the second one changes nothing
        post("save", first[0], first[2], *later[-1:], "grandma")
    taken = {1, 3} | ({first.index(later[-1]) + 1} if later[-1] in first else set())
    with urlopen(f"{address}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    counted = {
        (found[1], int(found[2])): float(found[3])
        for line in lines
        if (found := re.match(r'altreco_(\w+)_total{.*rank="(\d+)",release="1"} (\S+)', line))
    }
    ranks = range(1, SUGGESTIONS + 1)
    assert counted == {("suggested", rank): 1 for rank in ranks} | {
        ("accepted", rank): float(rank in taken) for rank in ranks
    }


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
