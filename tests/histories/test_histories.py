"""Histories in a database: the same on SQLite and on PostgreSQL."""

import random
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from altreco_client import AltrecoError, HistoriesUnavailable, InvalidHistory, InvalidRequest, TagHistory
from altreco_client.histories import Histories

from tests.client.odd_server import closed_port
from tests.histories.beside import counted, engine, pictures, recounted

DOCUMENT = Path(__file__).parents[2] / "docs" / "histories.md"


@pytest.fixture
def store(database: str) -> Iterator[Histories]:
    with Histories(database) as store:
        yield store


def test_a_picture_is_counted_once_and_changed_by_the_difference(store: Histories, database: str) -> None:
    assert store["ana"] == TagHistory()
    store.save("ana", "1", ["sea", " beach ", "sea"])
    store.save("ana", "2", ["sea"])
    store.save("ben", "1", ["dog"])
    assert store["ana"] == {"sea": 2, "beach": 1}
    store.save("ana", "1", ["beach", "sea"])
    assert store["ana"] == {"sea": 2, "beach": 1}
    store.save("ana", "1", ["sky", "beach"])
    assert store["ana"] == {"sea": 1, "beach": 1, "sky": 1}
    store.remove("ana", "2")
    store.remove("ana", "2")
    store.remove("ana", "never saved")
    assert store["ana"] == {"beach": 1, "sky": 1}
    assert store["ana"].to_json() == TagHistory({"beach": 1, "sky": 1}).to_json()
    store.save("ana", "1", [])
    assert store["ana"] == {}
    assert pictures(database) == {("ben", "1"): ["dog"]}


def test_many_are_in_the_order_of_the_question(store: Histories) -> None:
    store.save("ana", "1", ["sea"])
    store.save("ben", "1", ["dog"])
    assert store.many(["ben", "eve", "ana", "ben"]) == [{"dog": 1}, {}, {"sea": 1}, {"dog": 1}]
    crowd = [f"user-{number}" for number in range(1_200)]
    assert store.many([*crowd, "ana"])[-1] == {"sea": 1}
    assert store.many([]) == []


def test_a_forgotten_user_leaves_no_row(store: Histories, database: str) -> None:
    store.save("ana", "1", ["sea"])
    store.save("ben", "1", ["sea"])
    store.forget("ana")
    store.forget("nobody")
    assert store["ana"] == {}
    assert counted(database) == {("ben", "sea"): 1}
    assert pictures(database) == {("ben", "1"): ["sea"]}


def test_any_order_of_changes_ends_with_the_count_of_the_pictures(store: Histories, database: str) -> None:
    chance, expected = random.Random(3), {}
    for step in range(60):
        user, picture = chance.choice("ab"), chance.choice("123")
        tags = chance.sample(["sea", "sky", "dog", "cat"], chance.randrange(4))
        match chance.randrange(8):
            case 0:
                store.forget(user)
                expected = {key: tags for key, tags in expected.items() if key[0] != user}
            case 1 | 2:
                store.remove(user, picture)
                expected.pop((user, picture), None)
            case _:
                store.save(user, picture, tags)
                expected[user, picture] = sorted(tags)
        if step % 10 == 9:
            assert pictures(database) == {key: tags for key, tags in expected.items() if tags}
            assert counted(database) == recounted(database)


def test_every_tag_and_id_is_kept_as_it_is(store: Histories, database: str) -> None:
    chance = random.Random(5)
    longest_tag = "".join(chr(chance.randrange(0x4E00, 0x9FFF)) for _ in range(533)) + "a"
    longest_id = "".join(chr(chance.randrange(33, 127)) for _ in range(1_000))
    tags = ["'; DROP TABLE altreco_pictures; --", "50%", "%s", ":tag", "a\\b", '"', "naïve", "\U0001f30a", longest_tag]
    for user in ("Ana", "ana", " ana", "an%", longest_id):
        store.save(user, longest_id, tags)
        assert store[user] == dict.fromkeys(tags, 1)
        assert pictures(database)[user, longest_id] == sorted(tags)
    store.remove("ana", longest_id)
    assert [len(history) for history in store.many(["ana", "Ana", " ana"])] == [0, len(tags), len(tags)]


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda store: store.save("ana", "1", "sea"), InvalidHistory, "expected a list"),
        (lambda store: store.save("ana", "1", {"sea": 2}), InvalidHistory, "expected one picture's tags"),
        (lambda store: store.save("ana", "1", ["sea", "two\nlines"]), InvalidHistory, "expected 1 to 1,000 characters"),
        (lambda store: store.save("ana", "1", ["sea", "海" * 534]), InvalidHistory, "expected at most 1,600 bytes"),
        (lambda store: store.save(17, "1", ["sea"]), InvalidRequest, "user 17: expected a str"),
        (lambda store: store.save("", "1", ["sea"]), InvalidRequest, "user '': expected a str of 1 to 1,000 bytes"),
        (lambda store: store.save("é" * 501, "1", ["sea"]), InvalidRequest, "expected a str of 1 to 1,000 bytes"),
        (lambda store: store.save("a\0", "1", ["sea"]), InvalidRequest, "without control characters"),
        (lambda store: store.save("\ud800", "1", ["sea"]), InvalidRequest, r"user '\\ud800': expected"),
        (lambda store: store.save("ana", None, ["sea"]), InvalidRequest, "picture None: expected a str"),
        (lambda store: store.remove("ana", ""), InvalidRequest, "picture ''"),
        (lambda store: store.forget(None), InvalidRequest, "user None"),
        (lambda store: store.many("ana"), InvalidHistory, "expected a list of users' ids"),
        (lambda store: store[1], InvalidRequest, "user 1: expected a str"),
        (lambda store: store.set_counts([("ana", "sea", -1)]), InvalidHistory, "count of 'sea' is -1"),
        (lambda store: store.set_counts([("ana", None, 1)]), InvalidHistory, "tag None: expected a str"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    call: Callable[[Histories], object], kind: type[AltrecoError], words: str, tmp_path: Path
) -> None:
    with Histories(f"sqlite:///{tmp_path}/histories.db") as store:
        store.save("ana", "1", ["sky"])
        with pytest.raises(kind, match=words):
            call(store)
        assert list(store.counts()) == [("ana", "sky", 1)]


def test_counts_from_elsewhere_are_set_and_may_be_set_again(store: Histories, database: str) -> None:
    store.save("ana", "1", ["sea", "sky"])
    rows = [("ana", "sea", 4.5), ("ana", "sky", 0), ("ben", " dog", 2), ("ben", "dog", 3), ("cleo", "cat", 3e38)]
    for _ in range(2):
        assert store.set_counts(rows) == 5
        assert sorted(store.counts()) == [
            ("ana", "sea", 4.5),
            ("ana", "sky", 1),
            ("ben", "dog", 3),
            ("cleo", "cat", 3e38),
        ]
    store.remove("ana", "1")
    store.save("cleo", "1", ["cat"])
    assert store.many(["ana", "cleo"]) == [{"sea": 3.5}, {"cat": 3e38}]
    crowd = [(f"user-{number % 700:03}", f"tag-{number}", 1) for number in range(1_400)]
    assert store.set_counts(crowd) == 1_400
    assert counted(database).items() >= {(user, tag): count for user, tag, count in crowd}.items()


def test_a_count_that_was_set_too_low_does_not_fall_below_zero(store: Histories) -> None:
    for picture in "123":
        store.save("ana", picture, ["sea"])
    store.set_counts([("ana", "sea", 0.5)])
    for picture in "123":
        store.remove("ana", picture)
    assert store["ana"] == {}


def test_an_error_on_the_way_leaves_no_half_of_a_picture(store: Histories, database: str) -> None:
    store.save("ana", "1", ["sea", "sky"])
    before = counted(database), pictures(database)
    provoke = "ALTER TABLE altreco_pictures ADD CONSTRAINT few CHECK (picture_id <> '2' AND length(tags::text) < 20)"
    if database.startswith("sqlite"):
        provoke = (
            "CREATE TRIGGER few BEFORE INSERT ON altreco_pictures WHEN NEW.picture_id = '2' OR length(NEW.tags) >= 20 "
            "BEGIN SELECT RAISE(ABORT, 'violates few'); END"
        )
    with engine(database).begin() as connection:
        connection.exec_driver_sql(provoke)
    for picture, tags in (("2", ["sea"]), ("1", ["sky", "a long word or two"])):
        with pytest.raises(HistoriesUnavailable, match=r"cannot be used: .*few"):
            store.save("ana", picture, tags)
        assert (counted(database), pictures(database)) == before


def test_memory_is_one_database_for_all_threads() -> None:
    with Histories("sqlite://") as store, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.save("ana", str(number), ["sea"]), range(80)))
        assert store["ana"] == {"sea": 80}


def test_histories_last(database: str) -> None:
    with Histories(database) as store:
        store.save("ana", "1", ["sea"])
    with Histories(database) as store:
        store.save("ana", "1", ["sea"])
        assert store["ana"] == {"sea": 1}


def test_closed_histories_say_so(database: str) -> None:
    store = Histories(database)
    store.save("ana", "1", ["sea"])
    store.close()
    store.close()
    with pytest.raises(InvalidRequest, match="closed: create another"):
        store.save("ana", "1", ["sea"])


def test_a_database_that_is_away_says_so_without_its_password() -> None:
    url = f"postgresql://ana:s3cret@{closed_port()}/photos?sslpassword=s3cret"
    with Histories(url) as store:
        for call in (lambda: store["ana"], lambda: store.save("ana", "1", ["sea"]), lambda: next(store.counts())):
            with pytest.raises(HistoriesUnavailable, match=r"1:\d+/photos cannot be used: .*refused") as caught:
                call()
            said = "".join(traceback.format_exception(caught.value)) + repr(store)
            assert "s3cret" not in said
            assert "sqlalchemy" not in said
        assert isinstance(caught.value, ConnectionError)


def test_a_file_that_cannot_be_a_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database, but a text that is long enough to be read" * 20)
    for file, words in (("missing/histories.db", "unable to open"), ("text.db", "not a database")):
        said = pytest.raises(HistoriesUnavailable, match=rf"{file} cannot be used: .*{words}")
        with Histories(f"sqlite:///{tmp_path}/{file}") as store, said:
            store.save("ana", "1", ["sea"])


@pytest.mark.parametrize("is_new", [True, False])
def test_a_locked_file_is_waited_for(is_new: bool, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/histories.db"
    with Histories(url) as store, ThreadPoolExecutor(1) as pool, engine(url).connect() as other:
        if not is_new:
            store.save("ana", "1", ["sea"])
        other.exec_driver_sql("BEGIN IMMEDIATE")
        if not is_new:
            assert store["ana"] == {"sea": 1}, "a writer does not stop readers"
        saved = pool.submit(store.save, "ana", "2", ["sea"])
        with pytest.raises(TimeoutError):
            saved.result(0.1)
        other.rollback()
        saved.result(30)
        assert store["ana"] == {"sea": 1 if is_new else 2}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("histories.db s3cret", "cannot be read: expected sqlite:///FILE"),
        ("sqlite://histories.db", "has a host, 'histories.db': expected sqlite:///FILE, with three slashes"),
        ("postgresql://ana:s3cret@host:port/photos", "cannot be read: expected"),
        ("", "cannot be read"),
        (None, "cannot be read"),
        ("mysql://ana:s3cret@host/photos", "for 'mysql': expected sqlite:///FILE, with three slashes, or postgresql"),
        ("postgresql+psycopg2://ana:s3cret@host/photos", r"for 'postgresql\+psycopg2': expected"),
        ("postgresql://ana:p@s3cret@host/photos", "%40 for an @ in a password"),
    ],
)
def test_a_url_that_is_none_is_refused_without_its_password(url: Any, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        Histories(url)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("url", ["sqlite:///{}/typo.db", "sqlite://"])
def test_what_only_reads_makes_no_empty_file(url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"there are no histories in .*: expected a file that `Histories`"):
        Histories(url.format(tmp_path), create=False)
    assert list(tmp_path.iterdir()) == []


def test_histories_are_looked_up_not_gone_through(database: str) -> None:
    with Histories(database) as store:
        for go_through in (list, lambda users: "ana" in users):
            with pytest.raises(TypeError, match=r"iterable|container"):
                go_through(store)


def test_without_the_extra_the_client_works_and_says_how_to_get_it() -> None:
    program = """
import sys
import altreco_client
assert "sqlalchemy" not in sys.modules
sys.modules["sqlalchemy"] = None
from altreco_client.__main__ import main
try:
    import altreco_client.histories
except ImportError as error:
    print(error)
sys.exit(main(["history", "export", "--store", "sqlite://", "histories.parquet"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    install = "pip install 'altreco-client[histories]'"
    assert (done.returncode, done.stdout) == (1, f"altreco_client.histories needs SQLAlchemy: {install}\n")
    assert done.stderr == f"error: --store needs: {install}\n"


def test_the_sql_of_the_docs_makes_the_same_tables(database: str) -> None:
    def tables() -> list[object]:
        found, names = sa.inspect(engine(database)), ("altreco_tag_counts", "altreco_pictures")
        of = ("name", "nullable") if database.startswith("sqlite") else ("name", "nullable", "type")
        columns = [str(column[key]) for name in names for column in found.get_columns(name) for key in of]
        return [columns, [found.get_pk_constraint(name)["constrained_columns"] for name in names]]

    [sql] = re.findall(r"```sql\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    with engine(database).begin() as connection:
        for statement in filter(str.strip, sql.split(";")):
            connection.exec_driver_sql(statement)
    printed = tables()
    with Histories(database) as store:
        store.save("ana", "1", ["sea"])
        assert store["ana"] == {"sea": 1}
        with pytest.raises(sa.exc.IntegrityError), engine(database).begin() as connection:
            connection.exec_driver_sql("UPDATE altreco_tag_counts SET count = 0")
    with engine(database).begin() as connection:
        connection.exec_driver_sql("DROP TABLE altreco_tag_counts")
        connection.exec_driver_sql("DROP TABLE altreco_pictures")
    with Histories(database) as store:
        assert store["ana"] == {}
    assert tables() == printed
