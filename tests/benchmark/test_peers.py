import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import psutil
import pytest
from altreco_client import contract

from benchmark.peers.answers import best, read_bodies, write_body
from benchmark.peers.clients import Ask, raw_post
from benchmark.peers.contestants import Contestant, Files, contestants, make_files
from benchmark.peers.environments import peer_python
from benchmark.peers.errors import PeerError
from benchmark.peers.race import reference, take_raw_turn, take_turn
from benchmark.peers.servers import PORT, Served, http_server
from benchmark.peers.settings import PeerSettings
from benchmark.peers.tuning import Tuning
from measure.requests import new_arrays
from measure.waiting import wait_until
from tests.servers import listens
from tests.tiny import REPOSITORY, TAGS

SETTINGS = PeerSettings(rounds=1, warmup_s=0.1, window_s=0.3, tuning_s=0.2, clients=(1, 3), compared_pictures=2)
CACHE_BYTES = 64 * 1024**2
BATCHED = [(of, way) for of in contestants(2) for way in of.ways if "batches to" in way]
"""Each contestant's first way is measured in test_measured.py."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return make_files("ablation", REPOSITORY, SETTINGS.environments, tmp_path_factory.mktemp("peers"), CACHE_BYTES)


@pytest.mark.slow
@pytest.mark.parametrize(("contestant", "way"), BATCHED, ids=[of.name for of, _ in BATCHED])
def test_batches_answer_the_same_and_all_processes_end_with_the_one_that_started_them(
    contestant: Contestant, way: str, files: Files
) -> None:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    starter = spawn.Process(target=serve_until_killed, args=(contestant.name, way, files, theirs))
    starter.start()
    served: Served = ours.recv()
    expected = reference(files, SETTINGS.compared_pictures)
    turn = take_turn(contestant, lambda _: nullcontext(served), files, expected, SETTINGS)
    assert set(turn.new) == {1, 3}
    assert not turn.repeat
    for load in turn.new.values():
        assert load.seconds >= SETTINGS.window_s
        assert all(0 < latency <= 1000 * load.seconds for latency in load.latencies_ms)
    assert turn.memory["rss"] > turn.memory["pss"] > 50e6

    server = psutil.Process(served.pid)
    processes = [server, *server.children(recursive=True)]
    assert len(processes) > 1
    starter.kill()
    starter.join()
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert not alive


def serve_until_killed(name: str, way: str, files: Files, connection: Connection) -> None:
    (contestant,) = (of for of in contestants(2) if of.name == name)
    with contestant.ways[way](files) as served:
        connection.send(served)
        connection.recv()


@pytest.mark.slow
def test_raw_onnx_runtime_counts_every_picture_of_a_batch(files: Files) -> None:
    alone, batches = (Tuning(workers=1, threads=1, batch=batch) for batch in (1, 4))
    turn = take_raw_turn(alone, batches, files, SETTINGS)
    latencies = np.reshape(turn.new[3].latencies_ms, (-1, 4))
    assert (latencies == latencies[:, :1]).all()
    assert sum(latencies[:, 0]) <= 1000 * turn.new[3].seconds
    ones = turn.new[1].latencies_ms
    assert len(set(ones)) > len(ones) / 4
    assert turn.memory["rss"] > 50e6


@pytest.mark.slow
def test_another_model_is_refused(files: Files) -> None:
    ((picture, answer),) = reference(files, 1)
    other = [(tag, score + 0.1) for tag, score in answer]
    ensemble = contestants(2)[0]
    with pytest.raises(PeerError, match=r"ensemble answered .*, ONNX Runtime .*: they do not serve the same model"):
        take_turn(ensemble, ensemble.ways["the committed configs"], files, [(picture, other)], SETTINGS)


def test_bodies_come_back_as_they_were() -> None:
    pictures = [(image.copy(), history) for image, history in islice(new_arrays(TAGS), 2)]
    images, histories = read_bodies([write_body(*picture) for picture in pictures], contract.IMAGE.dims)
    assert (images == np.concatenate([image for image, _ in pictures])).all()
    assert (histories == np.concatenate([history for _, history in pictures])).all()
    assert not np.array_equal(images[0], images[1])


def test_the_best_come_first() -> None:
    scores = np.array([0.1, 0.9, 0.5, 0.3, 0.7, 0.2, 0.4], dtype=np.float32)
    assert best(scores, list("abcdefg")) == [("b", 0.9), ("e", 0.7), ("c", 0.5), ("g", 0.4), ("d", 0.3)]


def test_a_server_that_ends_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such model')"]
    with (
        pytest.raises(PeerError, match=r"broken ended at its start \(exit code 1\):\nno such model"),
        http_server("broken", command, {}, tmp_path, raw_post, next(new_arrays(TAGS))),
    ):
        pass


def test_a_server_that_refuses_is_given_up(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "http.server", PORT, "--bind", "127.0.0.1"]
    with (
        pytest.raises(PeerError, match=r"files did not answer within 3 s \(127.0.0.1:\d+/predict answered 501: "),
        http_server("files", command, {}, tmp_path, once_listening, next(new_arrays(TAGS)), start_s=3),
    ):
        pass


@contextmanager
def once_listening(address: str) -> Iterator[Ask]:
    """Ask only when the port is open: the start of Python may take longer than the server has to answer."""
    wait_until(lambda: listens(int(address.rpartition(":")[2])))
    with raw_post(address) as ask:
        yield ask


def test_an_environment_that_cannot_be_made(tmp_path: Path) -> None:
    peers = tmp_path / "peers"
    (peers / "broken").mkdir(parents=True)
    (peers / "broken" / "requirements.txt").write_text("altreco-client @ file:///does/not/exist\n")
    with pytest.raises(PeerError, match=r"broken cannot be installed into .*; pip says:\n"):
        peer_python("broken", tmp_path / "made", sources=peers)
    assert not (tmp_path / "made" / "broken" / "requirements.txt").exists()
