import os
import signal
import subprocess
import sys
import textwrap

from deploy.local.tied import tied
from measure.waiting import wait_until
from tests.servers import is_alive

PARENT = """
    import subprocess, sys, time
    from deploy.local.tied import tied
    print(subprocess.Popen(tied(["sleep", "600"])).pid, flush=True)
    time.sleep(600)
"""


def test_it_becomes_the_command_with_its_process_id_arguments_and_exit_code() -> None:
    code = "import os, sys; print(os.getpid(), sys.argv[1:]); sys.exit(3)"
    process = subprocess.Popen(tied([sys.executable, "-c", code, "a b", ""]), stdout=subprocess.PIPE, text=True)
    output, _ = process.communicate(timeout=30)
    assert output == f"{process.pid} ['a b', '']\n"
    assert process.returncode == 3


def test_it_ends_with_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(PARENT)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    wait_until(lambda: not is_alive(child))


def test_a_parent_that_has_gone_already() -> None:
    python, *options, parent, command = tied(["true"])
    assert int(parent) == os.getpid()
    assert subprocess.run([python, *options, "1", command], check=False).returncode == 1


def test_a_command_that_is_not_there() -> None:
    done = subprocess.run(tied(["no-such-command"]), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "cannot start no-such-command: No such file or directory\n")
