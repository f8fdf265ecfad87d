"""Many writers of the same histories at once, and ends that nobody expects, against a recount of the pictures."""

import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from altreco_client import HistoriesUnavailable
from altreco_client.histories import Histories

from tests.client.odd_server import wait_until
from tests.histories.beside import counted, engine, pictures, recounted
from tests.histories.postgres import Postgres

WRITERS, CHANGES, USERS = 50, 20, 5
TAGS = ("sea", "sky", "dog", "cat", "sun", "sand")

SAVE = """
import random, sys
from altreco_client.histories import Histories

url, seed, changes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
with Histories(url) as store:
    print("ready", flush=True)
    input()
    for number in range(changes):
        store.save(chance.choice("ab"), f"{seed}-{number}", chance.sample(["sea", "sky", "dog", "cat"], 2))
        print(number, flush=True)
"""


@contextmanager
def saving(url: str, seed: int, changes: int) -> Iterator[subprocess.Popen[str]]:
    """A process that saves pictures once it is told to `go`, and prints the number of each."""
    command = [sys.executable, "-c", SAVE, url, str(seed), str(changes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.mark.slow
def test_fifty_writers_lose_no_count(postgres: Postgres) -> None:
    url = postgres.new_database()
    stores = [Histories(url) for _ in range(5)]  # fifty connections
    together = threading.Barrier(WRITERS)

    def write(writer: int) -> None:
        chance, store = random.Random(writer), stores[writer % 5]
        together.wait(60)
        for _ in range(CHANGES):
            user, picture = f"user-{chance.randrange(USERS)}", f"picture-{chance.randrange(40)}"
            if chance.random() < 0.2:
                store.remove(user, picture)
            else:
                store.save(user, picture, chance.sample(TAGS, 3))

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(WRITERS)))
    for store in stores:
        store.close()
    assert counted(url) == recounted(url)
    assert len(pictures(url)) > 100


def test_a_picture_that_all_save_at_once_is_counted_once(database: str) -> None:
    together = threading.Barrier(10)

    def save(store: Histories) -> None:
        together.wait(60)
        store.save("ana", "1", ["sea", "sky"])

    with Histories(database) as store, ThreadPoolExecutor(10) as pool:
        list(pool.map(save, [store] * 10))
        assert store["ana"] == {"sea": 1, "sky": 1}


@pytest.mark.slow
def test_fifty_saves_of_one_picture_count_it_once(postgres: Postgres) -> None:
    with Histories(postgres.new_database()) as store, ThreadPoolExecutor(WRITERS) as pool:
        for round_ in range(3):
            tags = TAGS[round_ : round_ + 3]
            list(pool.map(lambda _, tags=tags: store.save("ana", "1", tags), range(WRITERS)))
            assert store["ana"] == dict.fromkeys(tags, 1)


@pytest.mark.slow
def test_a_user_who_is_forgotten_beside_saves_keeps_whole_pictures_or_none(database: str) -> None:
    with Histories(database) as store, ThreadPoolExecutor(5) as pool:
        store.save("ben", "1", ["sea"])

        def write(writer: int) -> None:
            chance = random.Random(writer)
            for number in range(30):
                if writer == 0:
                    store.forget("ana")
                else:
                    store.save("ana", f"{writer}-{number % 5}", chance.sample(TAGS, 3))

        list(pool.map(write, range(5)))
        assert counted(database) == recounted(database)
        assert store["ben"] == {"sea": 1}
        store.forget("ana")
        assert pictures(database) == {("ben", "1"): ["sea"]}


@pytest.mark.slow
def test_eight_processes_share_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/histories.db"
    with ExitStack() as stack:
        processes = [stack.enter_context(saving(url, seed, 25)) for seed in range(8)]
        for process in processes:
            assert line(process) == "ready\n"
        for process in processes:
            go(process)
        for process in processes:
            process.communicate(timeout=120)
            assert process.returncode == 0
    assert len(pictures(url)) == 8 * 25
    assert counted(url) == recounted(url)


@pytest.mark.slow
def test_a_process_killed_while_it_saves_leaves_whole_pictures(database: str) -> None:
    with saving(database, 1, 10_000) as process:
        go(process)
        seen = [line(process) for _ in range(20)]
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    assert len(pictures(database)) >= len(seen) - 1
    wait_until(lambda: counted(database) == recounted(database))  # PostgreSQL may still commit for the dead one
    with Histories(database) as store:
        store.save("a", "afterwards", ["sea"])


@pytest.mark.slow
def test_a_process_killed_within_a_transaction_changes_nothing(postgres: Postgres) -> None:
    url = postgres.new_database()
    with Histories(url) as store:
        store.save("a", "1", ["sea"])
        store.save("b", "1", ["sea"])
    before = counted(url), pictures(url)
    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'altreco_pictures'::regclass")
    with engine(url).connect() as watching, engine(url).connect() as blocking, saving(url, 1, 1) as process:
        watching.execution_options(isolation_level="AUTOCOMMIT")
        blocking.exec_driver_sql("LOCK TABLE altreco_pictures IN EXCLUSIVE MODE")  # can be read, not written
        go(process)
        wait_until(lambda: watching.scalar(waiting) == 1)  # it has changed its counts by then
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        blocking.rollback()
    with Histories(url) as store:
        store.save("a", "1", ["sea"])  # waits for the dead one's locks
        store.save("b", "1", ["sea"])
    assert (counted(url), pictures(url)) == before


@pytest.mark.slow
def test_a_server_that_comes_back_is_used_again(postgres: Postgres) -> None:
    with Histories(postgres.new_database()) as store:
        store.save("ana", "1", ["sea"])
        postgres.stop()
        try:
            with pytest.raises(HistoriesUnavailable, match="cannot be used"):
                store.save("ana", "2", ["sea"])
        finally:
            postgres.start()
        store.save("ana", "2", ["sea"])
        postgres.stop()
        postgres.start()
        assert store["ana"] == {"sea": 2}, "a restart between two calls is not noticed"
