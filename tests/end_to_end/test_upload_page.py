"""The upload service's page in a real browser."""

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, ConsoleMessage, FilePayload, Locator, Page, expect

from tests.end_to_end.http_service import TIMEOUT_S, ask, jpeg
from tests.end_to_end.upload_service import MAX_PICTURES, NOBODY, SUGGESTIONS, SharedService, chromium, upload_service


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=TIMEOUT_S * 1000)
    with chromium() as browser:
        yield browser


@pytest.fixture
def address(shared_service: SharedService) -> str:
    return shared_service.without_histories()


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
        assert ask(address, "/api/pictures", jpeg(seed)).status == 201
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
