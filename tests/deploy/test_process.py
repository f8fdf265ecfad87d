import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local.process import EndedAtStart, NotReady, Running, free_port, piped, running, wait_until_ready

ROOT = Path(__file__).parents[2]
WAIT_S = 30.0
WAITING = "import os, sys, time; held = os.open(sys.argv[1], os.O_WRONLY); print('up', flush=True); time.sleep(600)"
PARENT_OF_ANOTHER = """
import os, signal, subprocess, sys, time
held = os.open(sys.argv[1], os.O_WRONLY)
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"asked to end\\n"), sys.exit(int(sys.argv[2]))))
subprocess.Popen(["sleep", "600"], pass_fds=[held])
print("up", flush=True)
time.sleep(600)
"""
STARTER = """
import sys
from pathlib import Path
from deploy.local.process import running, wait_until_ready
with running([sys.executable, "-c", *sys.argv[2:]], log_path=Path(sys.argv[1]), stop_timeout_s=5) as process:
    wait_until_ready(process, lambda: None if process.log() else "it said nothing", 30)
    print("ready", flush=True)
    process.wait()
"""


class Holders:
    """Tells when the last process that has opened `path` for writing is gone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self.reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def are_gone(self, within_s: float = WAIT_S) -> bool:
        return bool(select.select([self.reader], [], [], within_s)[0])


@pytest.fixture
def holders(tmp_path: Path) -> Iterator[Holders]:
    made = Holders(tmp_path / "held")
    yield made
    os.close(made.reader)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "command.log"


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def wait_until_up(process: Running) -> None:
    wait_until_ready(process, lambda: None if "up\n" in process.log() else "it said nothing", WAIT_S)


def test_the_command_runs_and_its_log_is_kept(holders: Holders, log: Path) -> None:
    log.write_text("an earlier run\n")
    with running(python(WAITING, holders.path), log_path=log, stop_timeout_s=5) as process:
        wait_until_up(process)
        assert process.poll() is None
        assert process.wait(0) is None
        assert not holders.are_gone(within_s=0)
    assert process.poll() == -signal.SIGTERM
    assert holders.are_gone()
    assert log.read_text() == "up\n"


@pytest.mark.parametrize(("stop_timeout_s", "exit_code", "said"), [(WAIT_S, 3, "asked to end\n"), (0, -9, "")])
def test_the_whole_group_is_gone_at_the_end(
    holders: Holders, log: Path, stop_timeout_s: float, exit_code: int, said: str
) -> None:
    command = python(PARENT_OF_ANOTHER, holders.path, 3)
    with running(command, log_path=log, stop_timeout_s=stop_timeout_s) as process:
        wait_until_up(process)
    assert process.poll() == exit_code
    assert holders.are_gone()
    assert log.read_text() == "up\n" + said


def test_a_command_that_does_not_end_when_asked_is_killed(log: Path) -> None:
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    )
    with running(python(stubborn), log_path=log, stop_timeout_s=0.1) as process:
        wait_until_up(process)
    assert process.poll() == -signal.SIGKILL


def test_an_error_in_the_block_ends_it_as_well(holders: Holders, log: Path) -> None:
    command = python(PARENT_OF_ANOTHER, holders.path, 0)
    with pytest.raises(ZeroDivisionError), running(command, log_path=log, stop_timeout_s=WAIT_S) as process:  # noqa: PT012
        wait_until_up(process)
        raise ZeroDivisionError
    assert holders.are_gone()


def test_it_ends_with_a_starter_that_is_killed(holders: Holders, log: Path) -> None:
    starter = subprocess.Popen(python(STARTER, log, WAITING, holders.path), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    assert starter.stdout.readline() == "ready\n"
    assert not holders.are_gone(within_s=0)
    starter.kill()
    starter.communicate()
    assert holders.are_gone()


def test_ctrl_c_is_for_the_starter_alone(log: Path) -> None:
    with running(["sleep", "600"], log_path=log, stop_timeout_s=0) as process:
        name = Path(f"/proc/{process.pid}/comm")
        wait_until_ready(process, lambda: None if name.read_text() == "sleep\n" else "it is not sleep yet", WAIT_S)
        assert os.getpgid(process.pid) == os.getsid(process.pid) == process.pid
        process.interrupt()
        assert process.wait(WAIT_S) == -signal.SIGINT
        process.interrupt()  # it has ended already


def test_a_command_that_ends_at_its_start(log: Path) -> None:
    with running(python("raise SystemExit('no such model')"), log_path=log, stop_timeout_s=5) as process:
        with pytest.raises(EndedAtStart) as raised:
            wait_until_ready(process, lambda: "it does not answer", WAIT_S)
        assert (raised.value.exit_code, raised.value.problem) == (1, "it does not answer")
        assert process.log() == "no such model\n"


def test_a_command_that_is_not_there(log: Path) -> None:
    with running(["no-such-command"], log_path=log, stop_timeout_s=5) as process:
        assert process.wait(WAIT_S) == 1
        assert process.log() == "cannot start no-such-command: No such file or directory\n"


def test_a_command_that_is_not_ready_in_time(log: Path) -> None:
    with running(["sleep", "600"], log_path=log, stop_timeout_s=5) as process:
        with pytest.raises(NotReady, match="it does not answer") as raised:
            wait_until_ready(process, lambda: "it does not answer", 0.01)
        assert not isinstance(raised.value, EndedAtStart)
        assert process.poll() is None


def test_the_output_can_be_seen_as_well(log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = "import os, sys; print(os.environ['WORD'], os.getcwd()); sys.exit('at once')"
    environment = {**os.environ, "WORD": "here"}
    with running(python(code), log_path=log, stop_timeout_s=5, env=environment, cwd=log.parent, echo=True) as process:
        assert process.wait(WAIT_S) == 1
        assert sorted(process.log().splitlines()) == ["at once", f"here {log.parent}"]
    assert capfd.readouterr().err == log.read_text()


def test_two_commands_share_a_log(log: Path) -> None:
    log.write_text("before\n")
    more: dict[str, Any] = {"log_path": log, "append": True, "stop_timeout_s": 5}
    with running(python("print('one')"), **more) as one, running(python("print('two')"), **more) as other:
        assert one.wait(WAIT_S) == other.wait(WAIT_S) == 0
    assert sorted(log.read_text().splitlines()) == ["before", "one", "two"]


def test_a_command_that_is_talked_to(holders: Holders) -> None:
    code = (
        "import os, sys; held = os.open(sys.argv[1], os.O_WRONLY)\nfor line in sys.stdin: print(len(line), flush=True)"
    )
    with piped(python(code, holders.path)) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"four\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"5\n"
        process.stdin.write(b"unread")
    assert process.returncode == -signal.SIGKILL
    assert holders.are_gone()


def test_a_free_port_is_not_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert free_port() != taken.getsockname()[1]
