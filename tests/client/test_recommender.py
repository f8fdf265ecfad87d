import asyncio
import inspect
import io
import os
from collections.abc import Callable
from typing import Any

import altreco_client
import numpy as np
import pytest
from altreco_client import (
    AsyncTagRecommender,
    CallReport,
    Channel,
    DeadlineExceeded,
    InvalidHistory,
    InvalidImage,
    InvalidRequest,
    Tag,
    TagHistory,
    TagRecommender,
    Unavailable,
    UnknownTag,
)
from altreco_client.__main__ import main
from PIL import Image

from tests.client.odd_server import PICTURE, Odd, closed_port, serving

ONCE = Channel(max_attempts=1)
"""For tests without a server that are not about retries, which take a second a call."""


def test_public_names_exist_and_stand_once() -> None:
    assert len(set(altreco_client.__all__)) == len(altreco_client.__all__)
    for name in altreco_client.__all__:
        assert getattr(altreco_client, name).__module__.startswith("altreco_client.")


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    def surface(kind: type) -> dict[str, object]:
        members = {name: member for name, member in vars(kind).items() if not name.startswith("_")}
        return {
            name: list(inspect.signature(member).parameters) if callable(member) else type(member)
            for name, member in members.items()
        }

    assert surface(AsyncTagRecommender) == surface(TagRecommender)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"deadline_s": 0}, "deadline_s is 0: expected seconds"),
        ({"deadline_s": float("inf")}, "deadline_s is inf"),
        ({"deadline_s": "5"}, "deadline_s is '5'"),
        ({"deadline_s": True}, r"deadline_s is True \(bool\)"),
        ({"deadline_s": 1e10}, "expected seconds above zero, at most 1,000,000"),
        ({"deadline_s": 1e308}, "at most 1,000,000"),
        ({"deadline_s": 10**400}, "at most 1,000,000"),
        ({"max_pixels": 0}, "max_pixels is 0"),
        ({"max_pixels": 1e6}, r"max_pixels is 1000000\.0 \(float\): expected a whole number"),
        ({"max_batch_size": 0}, "max_batch_size is 0"),
        ({"vocabulary_check_s": -1}, "vocabulary_check_s is -1"),
        ({"vocabulary_check_s": float("nan")}, "vocabulary_check_s is nan"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        TagRecommender(**settings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k is 0: expected a whole number"),
        ({"k": 2.0}, "k is 2.0"),
        ({"k": True}, "k is True"),
        ({"deadline_s": -1}, "deadline_s is -1"),
        ({"unknown_tags": "drop"}, 'expected "error" or "ignore"'),
        ({"fallback": "popular"}, 'expected "history"'),
        ({"request_id": "two words"}, "expected 1 to 128 printable"),
        ({"request_id": "a\nb"}, "expected 1 to 128 printable"),
        ({"request_id": ""}, "expected 1 to 128 printable"),
        ({"headers": {"a b": "c"}}, "header 'a b'"),
    ],
)
def test_options_that_cannot_work_are_refused_before_anything_is_sent(options: dict, message: str) -> None:
    with TagRecommender(closed_port()) as recommender, pytest.raises(InvalidRequest, match=message):
        recommender.recommend(PICTURE, **options)


@pytest.mark.parametrize(
    "options", [{"k": np.int64(1)}, {"k": np.uint8(1)}, {"deadline_s": np.float32(30)}, {"deadline_s": np.int64(30)}]
)
def test_numbers_of_numpy_are_numbers(options: dict) -> None:
    channel = Channel(max_attempts=np.int64(1), backoff_s=np.float32(0.1), max_message_bytes=np.int64(2**20))  # type: ignore[arg-type]
    settings: dict = {"max_batch_size": np.int64(2), "vocabulary_check_s": np.float64("inf"), "channel": channel}
    with serving(Odd()) as url, TagRecommender(url, **settings) as recommender:
        assert len(recommender.recommend(PICTURE, {"sea": np.int64(2)}, **{"k": 1, **options}).tags) == 1


@pytest.mark.parametrize("method", ["recommend", "recommend_batch", "recommend_for_users"])
def test_a_misspelt_option_is_a_type_error_that_names_the_method(method: str) -> None:
    said = rf"^{method}\(\) got .*'deadline': expected deadline_s, unknown_tags, "
    with TagRecommender(closed_port()) as recommender, pytest.raises(TypeError, match=said):
        getattr(recommender, method)([PICTURE], [None], deadline=3)


@pytest.mark.parametrize("client", [TagRecommender, AsyncTagRecommender])
def test_a_misspelt_setting_is_a_type_error_that_names_the_client(client: type) -> None:
    with pytest.raises(TypeError, match=rf"^{client.__name__}\(\) got .*'deadline': expected model_name, deadline_s, "):
        client(closed_port(), deadline=3)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda r: r.recommend_batch([PICTURE], [None, None]), "1 images and 2 histories"),
        (lambda r: r.recommend_batch([(PICTURE, {"sea": 1})]), r"two lists.*recommend_batch\(\[a, b\], \[x, y\]\)"),
        (lambda r: r.recommend_batch("photo.jpg"), "images: expected a list or tuple, got str"),
        (lambda r: r.recommend_for_users(PICTURE, {"sea": 1}), "histories: expected a list or tuple, got dict"),
    ],
)
def test_batches_that_are_none_are_refused(ask: Callable[[TagRecommender], object], message: str) -> None:
    with TagRecommender(closed_port()) as recommender, pytest.raises(InvalidRequest, match=message):
        ask(recommender)


def test_no_server_is_unavailable_not_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    url = closed_port()
    with TagRecommender(url) as recommender:
        assert not recommender.ready()
        with pytest.raises(Unavailable, match=f"{url} does not answer"):
            recommender.recommend(PICTURE, {})
        with pytest.raises(InvalidImage):
            recommender.recommend(b"no image", {})
    assert main(["vocabulary", "--url", url]) == 1
    assert f"error: {url} does not answer" in capsys.readouterr().err


def test_asyncio_without_a_server() -> None:
    async def ask() -> None:
        async with AsyncTagRecommender(closed_port(), channel=ONCE) as recommender:
            assert not await recommender.ready()
            with pytest.raises(Unavailable):
                await recommender.recommend(PICTURE)
            with pytest.raises(Unavailable):
                await recommender.vocabulary

    asyncio.run(ask())


def test_without_a_server_the_fallback_is_the_users_own_tags_marked_as_such() -> None:
    with TagRecommender(closed_port(), channel=ONCE) as recommender:
        answer = recommender.recommend(PICTURE, TagHistory({"sky": 1, "sea": 4}), k=1, fallback="history")
        assert answer.tags == (Tag("sea", 1.0),)
        assert answer.model_version is None
        assert isinstance(answer.fallback, Unavailable)
        cold = recommender.recommend(PICTURE, None, fallback="history")
        assert (cold.tags, cold.model_version) == ((), None)
        with pytest.raises(InvalidImage):
            recommender.recommend(b"no image", {"sea": 1}, fallback="history")


def test_a_picture_that_takes_all_the_time_is_blamed_and_not_the_server() -> None:
    file = io.BytesIO()
    Image.new("RGB", (3000, 3000)).save(file, "PNG")
    blamed = r"no time was left to ask .* 1 picture\(s\) took .* of 0.005 s"
    with TagRecommender(closed_port(), deadline_s=0.005) as recommender, pytest.raises(DeadlineExceeded, match=blamed):
        recommender.recommend(file.getvalue())


def test_a_closed_client_says_so() -> None:
    recommender = TagRecommender(closed_port())
    recommender.close()
    with pytest.raises(InvalidRequest, match="was closed"):
        recommender.recommend(PICTURE)
    recommender.close()


def test_every_call_is_reported_how_ever_it_ends() -> None:
    reports: list[CallReport] = []
    with TagRecommender(closed_port(), channel=ONCE, on_call=reports.append) as recommender:
        with pytest.raises(Unavailable) as raised:
            recommender.recommend(PICTURE, request_id="first")
        recommender.recommend_batch([PICTURE, PICTURE], fallback="history", request_id="second")
    first, second = reports
    assert (first.method, first.request_id, first.error, first.fallback) == ("recommend", "first", raised.value, False)
    assert (second.method, second.pictures, second.users, second.fallback) == ("recommend_batch", 2, 2, True)
    assert second.error is None
    assert 0 < first.duration_s < 5


def test_a_hook_that_raises_is_logged_and_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: CallReport) -> None:
        raise RuntimeError("the metrics are broken")

    with TagRecommender(closed_port(), channel=ONCE, on_call=broken) as recommender:
        assert recommender.recommend(PICTURE, {"sea": 1}, fallback="history").tags == (Tag("sea", 1.0),)
    assert "the metrics are broken" in caplog.text


def test_after_a_fork_the_child_is_told_to_make_its_own() -> None:
    with TagRecommender(closed_port()) as recommender:
        recommender.ready()
        reader, writer = os.pipe()
        if (child := os.fork()) == 0:
            try:
                recommender.recommend(PICTURE)
            except InvalidRequest as error:
                os.write(writer, str(error).encode())
            finally:
                os._exit(0)
        os.close(writer)
        os.waitpid(child, 0)
        with os.fdopen(reader) as told:
            assert "after the fork" in told.read()


def test_a_bad_picture_among_several_is_named_and_has_its_place() -> None:
    with TagRecommender(closed_port()) as recommender, pytest.raises(InvalidImage, match="picture 2 of 3: ") as raised:
        recommender.recommend_batch([PICTURE, b"no image", PICTURE])
    assert raised.value.index == 1


@pytest.mark.parametrize(
    ("bad", "kind"), [({"sea": -1}, InvalidHistory), ({"zeppelin": 1}, UnknownTag), ("sea", InvalidHistory)]
)
def test_a_bad_history_among_several_is_named_and_has_its_place(bad: Any, kind: type[InvalidHistory]) -> None:
    with serving(Odd()) as url, TagRecommender(url, max_batch_size=2) as recommender:
        for ask in (
            lambda: recommender.recommend_batch([PICTURE] * 4, [None, {"sea": 1}, None, bad], 2),
            lambda: recommender.recommend_for_users(PICTURE, [None, {"sea": 1}, None, bad], 2),
        ):
            with pytest.raises(kind, match=r"^history 4 of 4: ") as raised:
                ask()
            assert raised.value.index == 3
        with pytest.raises(kind, match=r"^(?!history \d of)"):
            recommender.recommend(PICTURE, bad, 2)


@pytest.mark.parametrize("bad", [{"sea": -1}, {3: 1}, "sea", ["sea"]])
def test_a_bad_history_of_a_fallback_is_named_and_has_its_place(bad: Any) -> None:
    with TagRecommender(closed_port(), deadline_s=0.5) as recommender:
        with pytest.raises(InvalidHistory, match=r"^history 2 of 2: ") as raised:
            recommender.recommend_batch([PICTURE] * 2, [{"sea": 1}, bad], 2, fallback="history")
        assert raised.value.index == 1
        with pytest.raises(InvalidHistory, match=r"^(?!history \d of)"):
            recommender.recommend(PICTURE, bad, 2, fallback="history")
