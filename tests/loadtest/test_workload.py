import io
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loadtest.errors import LoadtestError
from loadtest.load.payloads import Payloads
from loadtest.load.workload import DEFAULT, WORKLOADS, Pictures, Workload, load_workload, zipf_shares

TAGS = [f"tag-{i}" for i in range(200)]
UPLOADS = load_workload(DEFAULT)


def with_pictures(**changes: object) -> Workload:
    return replace(UPLOADS, pictures=replace(UPLOADS.pictures, **changes))  # type: ignore[arg-type]


def test_zipf_shares() -> None:
    shares = zipf_shares(4, 1.0)
    np.testing.assert_allclose(shares / shares[0], [1, 1 / 2, 1 / 3, 1 / 4])
    assert shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(zipf_shares(5, 0), 0.2)


def test_requests_have_the_shares_of_the_workload() -> None:
    workload = with_pictures(catalogue=50)
    requests = list(islice(Payloads(workload, TAGS, 1).stream(0), 20_000))
    assert np.mean([request.cold for request in requests]) == pytest.approx(0.2, abs=0.01)
    new = [request for request in requests if 1 <= len(request.history) <= 6 and set(request.history.values()) == {1}]
    assert 0.1 - 0.01 < len(new) / len(requests) < 0.2  # among the others, some have short histories, too
    assert np.mean([len(request.pictures) == 8 for request in requests]) == pytest.approx(0.05, abs=0.005)
    numbers = Counter(number for request in requests for number in request.pictures)
    asked = sum(numbers.values())
    new = [number for number in numbers if number >= 50]
    assert len(new) / asked == pytest.approx(0.7, abs=0.01)
    assert {numbers[number] for number in new} == {1}
    known = np.array([numbers[number] for number in range(50)])
    np.testing.assert_allclose(known / known.sum(), zipf_shares(50, 1.0), atol=0.01)


def test_histories_have_the_median_and_their_own_popular_tags() -> None:
    histories = Payloads(UPLOADS, TAGS, 1).histories
    assert np.median([len(history) for history in histories]) == pytest.approx(12, abs=1.5)
    (_, most), *_, (_, least) = Counter(tag for history in histories for tag in history).most_common()
    assert most > 5 * least


def test_histories_are_raw_counts_with_a_long_tail() -> None:
    counts = np.array([count for history in Payloads(UPLOADS, TAGS, 1).histories for count in history.values()])
    assert (counts == counts.round()).all()
    assert (counts.min(), np.median(counts)) == (1, 1)
    assert counts.max() > 100
    assert np.mean(counts == 1) == pytest.approx(6 / np.pi**2, abs=0.02)


def test_new_users_have_the_tags_of_a_picture_or_two() -> None:
    newcomers = Payloads(UPLOADS, TAGS, 1).newcomers
    assert {len(history) for history in newcomers} == {1, 2, 3, 4, 5, 6}
    assert {count for history in newcomers for count in history.values()} == {1}
    users = replace(UPLOADS.users, cold_share=0.0, new_share=1.0)
    asked = islice(Payloads(replace(UPLOADS, users=users), TAGS, 1).stream(0), 500)
    assert all(request.history in newcomers for request in asked)


def test_the_seed_draws_the_same_requests_and_a_stream_draws_its_own() -> None:
    first, again = (list(islice(Payloads(UPLOADS, TAGS, nonce).stream(3), 50)) for nonce in (1, 2))
    assert first == again
    other = list(islice(Payloads(UPLOADS, TAGS, 1).stream(4), 50))
    assert first != other
    fresh = [{n for request in of for n in request.pictures if n >= 2**40} for of in (first, other)]
    assert fresh[0].isdisjoint(fresh[1])


def test_a_picture_is_the_same_within_a_run_and_new_in_the_next() -> None:
    payloads, next_run = Payloads(UPLOADS, TAGS, 1), Payloads(UPLOADS, TAGS, 2)
    numbers = [0, 1, 8, 2**40, 2**41 + 5]
    pictures = [payloads.picture(number).tensor.tobytes() for number in numbers]
    assert len(set(pictures)) == len(numbers)
    assert pictures == [payloads.picture(number).tensor.tobytes() for number in numbers]
    assert set(pictures).isdisjoint(next_run.picture(number).tensor.tobytes() for number in numbers)


def test_photos_are_decoded_to_what_is_prepared_elsewhere() -> None:
    workload = with_pictures(decode_share=0.5, photo_sizes=((640, 480), (300, 500)))
    payloads = Payloads(workload, TAGS, 1)
    assert [Image.open(io.BytesIO(photo)).size for photo in payloads.photos] == [(640, 480), (300, 500)]
    assert payloads.decoded(7).tensor.tobytes() == payloads.picture(7).tensor.tobytes()
    flags = [flag for request in islice(payloads.stream(0), 4000) for flag in request.decode]
    assert np.mean(flags) == pytest.approx(0.5, abs=0.03)


def test_pictures_of_a_folder(tmp_path: Path) -> None:
    workload = with_pictures(folder=str(tmp_path), decode_share=1.0)
    with pytest.raises(LoadtestError, match=r"has no pictures, expected \.jpg"):
        Payloads(workload, TAGS, 1)
    Image.new("RGB", (300, 300), "red").save(tmp_path / "red.jpg")
    (tmp_path / "notes.txt").write_text("no picture")
    assert Payloads(workload, TAGS, 1).decoded(0).tensor[100, 100, 0] > 250
    (tmp_path / "broken.png").write_text("no picture")
    with pytest.raises(LoadtestError, match=r"broken\.png is not a picture that the client accepts"):
        Payloads(workload, TAGS, 1)
    with pytest.raises(LoadtestError, match="cannot be read: No such file"):
        Payloads(with_pictures(folder=str(tmp_path / "nowhere")), TAGS, 1)


def test_the_workloads_that_come_with_it() -> None:
    assert {file.stem for file in WORKLOADS.glob("*.toml")} >= {"uploads", "photos"}
    for file in WORKLOADS.glob("*.toml"):
        assert isinstance(load_workload(file).pictures, Pictures)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cold_share", "cold_shares", "there is no users.cold_shares, expected count, exponent, cold_share, new_share"),
        ("[users]", "[user]", "there is no user, expected pictures, users, history, batches"),
        ("new_share = 0.1", "new_share = 0.9", "users.cold_share and new_share sum to 1.1, expected at most 1"),
        ("count = 1_000", "count = 1_000.5", "users.count is 1000.5, expected a whole number"),
        ("count = 1_000", "count = true", "users.count is True, expected a whole number"),
        ("count = 1_000", "", "users.count is missing"),
        ("new_share = 0.7", "new_share = 70", "pictures.new_share is 70, expected a share, 0 to 1"),
        ("new_share = 0.7", "new_share = nan", "pictures.new_share is nan, expected a share"),
        ("decode_share = 0.0", "decode_share = 0.5", "pictures.decode_share and photo_sizes belong together"),
        ("decode_share = 0.0", "photo_sizes = [[1]]", r"pictures.photo_sizes\[0\] is \[1\], expected 2 values"),
        ("share = 0.95", "share = 0.9", "batches have shares that sum to 0.95, expected 1"),
        ("rows = 8", "rows = 33", r"batches\[1\].rows is 33, expected 1 to 32"),
        ("deadline_s = 5.0", "deadline_s = 1e10", r"deadline_s is 1e\+10, expected seconds above 0, at most 1,000,000"),
        ("seed = 0", "seed = 0 0", "is not TOML"),
    ],
)
def test_what_is_wrong_in_a_workload(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = DEFAULT.read_text()
    assert old in text
    file = tmp_path / "workload.toml"
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(LoadtestError, match=f"{file}.*{message}"):
        load_workload(file)
