"""Starting and stopping a real Triton."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import psutil
import pytest
from tritonclient.grpc import InferenceServerClient

import deploy.local.server
from deploy.local import (
    BackendAborted,
    PortInUse,
    RepositoryError,
    ServerDied,
    ServerSettings,
    ServerStartError,
    StartTimeout,
    on_free_ports,
    serve,
)
from deploy.local.__main__ import open_ports
from deploy.local.environment import find_installation
from measure.waiting import wait_until
from tests.deploy.conftest import Triton
from tests.deploy.models import config, double, write_model
from tests.servers import is_alive

ROOT = Path(__file__).parents[2]
DEADLINE_S = 30
LOAD_ALL = {"none": (), "explicit": ("--load-model=*",)}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one good model."""
    write_model(tmp_path / "repository", "good", double(), config())
    return tmp_path / "repository"


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if is_alive(process.pid)]


def shared_memory(triton: list[str]) -> list[Path]:
    """What is left of the shared memory of the server with this command line."""
    return list(Path("/dev/shm").glob(f"{triton[triton.index('--id') + 1]}*"))


def command(repository: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "deploy.local", "--repository", str(repository), "--strict", *more]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_command_runs_until_it_is_stopped_and_leaves_nothing(repository: Path, stop: signal.Signals) -> None:
    arguments = command(repository, "--free-ports", "--stop-timeout", "1")
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Triton is ready after")
        metrics_url = line.split("metrics ")[1].split(",")[0]
        with urllib.request.urlopen(metrics_url, timeout=5) as answer:
            assert "nv_inference_count" in answer.read().decode()
        children = psutil.Process(process.pid).children(recursive=True)
        triton = children[0].cmdline()
        assert len(children) > 1
        assert shared_memory(triton)
        process.send_signal(stop)
        assert process.wait(DEADLINE_S) == 0
        assert process.stdout.read() == ""
    wait_until(lambda: not alive(children), "every process of the server has ended")
    assert not shared_memory(triton)


def test_a_server_without_a_loaded_model_says_which_flag_loads_them(tmp_path: Path) -> None:
    arguments = command(tmp_path, "--free-ports", "--stop-timeout", "0", "--model-control", "explicit")
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert process.stdout.readline().startswith("No model is loaded: start the server with -- '--load-model=*'")
        process.terminate()
        assert process.wait(DEADLINE_S) == 0


def test_the_server_ends_with_a_parent_that_is_killed(repository: Path, tmp_path: Path) -> None:
    arguments = command(repository, "--free-ports")
    environment = {**os.environ, "TMPDIR": str(tmp_path)}  # nobody is left to remove the temporary folder
    with subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    wait_until(lambda: not alive(children), "every process of the server has ended")


def test_serve_yields_a_ready_server_and_notices_its_death(repository: Path) -> None:
    with serve(on_free_ports(repository, strict=True)) as server:
        with InferenceServerClient(server.grpc_url) as client:
            assert client.is_model_ready("good")
        assert "successfully loaded 'good'" in server.log_path.read_text()
        folder = server.log_path.parent
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(ServerDied, match=r"ended by itself \(exit code -9\)"):
            server.wait()
    assert not folder.exists()


def test_a_stop_timeout_of_0_kills_the_server_and_leaves_nothing(repository: Path, tmp_path: Path) -> None:
    with serve(on_free_ports(repository, strict=True, stop_timeout_s=0, log_file=tmp_path / "log")) as server:
        process = psutil.Process(server.pid)
        processes = [process, *process.children(recursive=True)]
        triton = process.cmdline()
        assert int(triton[triton.index("--exit-timeout-secs") + 1]) > 0  # for a SIGTERM from elsewhere
        assert shared_memory(triton)
    with pytest.raises(ServerDied, match=r"exit code -9\)"):
        server.wait()
    wait_until(lambda: not alive(processes), "every process of the server has ended")
    assert not shared_memory(triton)


def test_an_error_in_the_block_stops_the_server(tmp_path: Path) -> None:
    log = tmp_path / "triton.log"
    settings = on_free_ports(tmp_path, model_control="explicit", log_file=log)
    with pytest.raises(ZeroDivisionError), serve(settings) as server:  # noqa: PT012
        process = psutil.Process(server.pid)
        raise ZeroDivisionError
    assert not alive([process])
    assert "Started GRPCInferenceService" in log.read_text()


@pytest.mark.parametrize("option", ["grpc", "http", "metrics"])
def test_a_port_in_use_is_named_with_its_option(repository: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = on_free_ports(repository, **{f"{option}_port": port})
        message = f"port {port} on 127.0.0.1 is in use: .*--{option}-port.*--free-ports"
        with pytest.raises(PortInUse, match=message), serve(settings):
            pass


def test_a_tls_file_that_triton_cannot_read_is_not_taken_for_a_port_alone(repository: Path) -> None:
    flags = ("--grpc-use-ssl=true", *(f"--grpc-{file}=missing.pem" for file in ("server-cert", "server-key")))
    with (
        pytest.raises(PortInUse, match="if nothing listens, Triton cannot read a TLS file: give absolute paths"),
        serve(on_free_ports(repository, extra_args=flags)),
    ):
        pass


@pytest.mark.parametrize("aborts", [1, 2])
def test_a_start_in_which_triton_loses_a_lock_is_tried_once_more(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, aborts: int
) -> None:
    """Triton's own abort is too rare to wait for: a script before it ends as Triton does, so many times."""
    triton = find_installation()
    script = tmp_path / "tritonserver"
    script.write_text(
        f"#!/bin/sh\necho >> {tmp_path}/starts\nif [ $(wc -l < {tmp_path}/starts) -le {aborts} ]; then\n"
        "echo \"terminate called after throwing an instance of 'boost::interprocess::lock_exception'\"\n"
        f'kill -ABRT $$\nfi\nexec {triton.executable} "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setattr(deploy.local.server, "find_installation", lambda: replace(triton, executable=script))
    if aborts == 1:
        with serve(on_free_ports(repository)) as server, InferenceServerClient(server.grpc_url) as client:
            assert client.is_server_ready()
    else:
        with pytest.raises(BackendAborted, match="lost a lock in shared memory"), serve(on_free_ports(repository)):
            pass
    assert (tmp_path / "starts").read_text() == "\n\n"
    assert "starting once more" in caplog.text


def test_a_repository_that_is_not_there(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    with (
        pytest.raises(RepositoryError, match=f"no model repository {missing}: .*--repository"),
        serve(ServerSettings(repository=missing)),
    ):
        pass


def test_a_repository_without_models(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="has no models"), serve(ServerSettings(repository=tmp_path)):
        pass


def test_models_that_do_not_load_are_named_with_their_reasons(repository: Path) -> None:
    write_model(repository, "broken", double(), config(dims="4"))
    write_model(repository, "malformed", double(), 'backend: "onnxruntime"\nnonsense: 1')
    (repository / "new\x1b[2K").mkdir()
    (repository / "new\x1b[2K" / "config.pbtxt").write_text(config())
    done = subprocess.run(
        command(repository, "--free-ports"), cwd=ROOT, capture_output=True, text=True, check=False, timeout=DEADLINE_S
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"error: Triton could not load {repository}:",
        "  model 'malformed': failed to read text proto from "
        f"{repository}/malformed/config.pbtxt (2:9: Message type "
        '"inference.ModelConfig" has no field named "nonsense".)',
        r"  model 'new\x1b[2K': it has no version folder (1/, 2/, ...) with a model in it: export a release first",
        "  model 'broken' version 1: input 'X': the ONNX model has shape [-1, 3], the config expects shape [-1, 4] "
        "(a batch dimension, because max_batch_size > 0, then dims); output 'Y': the ONNX model has shape [-1, 3], "
        "the config expects shape [-1, 4] (a batch dimension, because max_batch_size > 0, then dims)",
    ]


def test_an_unknown_flag_for_triton_is_its_own_reason(repository: Path) -> None:
    settings = on_free_ports(repository, extra_args=("--no-such-flag",))
    with pytest.raises(ServerStartError, match="--no-such-flag"), serve(settings):
        pass


def test_a_start_that_takes_too_long(repository: Path) -> None:
    settings = on_free_ports(repository, start_timeout_s=0.001, stop_timeout_s=1)
    with pytest.raises(StartTimeout, match=r"not ready after 0\.001 s"), serve(settings):
        pass


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"grpc_port": 70000}, "ports"),
        ({"grpc_port": 8000}, "ports must be three different numbers"),
        ({"cache_size_bytes": -1}, "cache_size_bytes"),
        ({"start_timeout_s": 0}, "timeouts"),
        ({"stop_timeout_s": -1}, "timeouts"),
        ({"start_timeout_s": float("nan")}, "timeouts .*got nan to start"),
        ({"stop_timeout_s": float("inf")}, "at most 1,000,000, got 120 to start and inf to stop"),
    ],
)
def test_settings_that_cannot_work(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServerSettings(repository=Path("model_repository"), **settings)  # type: ignore[arg-type]


def test_a_host_that_is_no_address(repository: Path) -> None:
    settings = on_free_ports(repository, host="192.0.2.1")
    with pytest.raises(ServerStartError, match=r"cannot listen on 192\.0\.2\.1"), serve(settings):
        pass


def test_only_the_given_address_listens(strict_triton: Triton) -> None:
    listening = [
        entry for entry in psutil.Process(strict_triton.server.pid).net_connections() if entry.status == "LISTEN"
    ]
    assert len(listening) == 3
    assert {entry.laddr.ip.removeprefix("::ffff:") for entry in listening} == {"127.0.0.1"}


@pytest.mark.parametrize("control", ["none", "explicit"])
def test_no_path_reaches_a_shell_and_foreign_folders_are_no_models(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, control: Literal["none", "explicit"]
) -> None:
    marker = tmp_path / "marker"
    monkeypatch.setenv("MARKER", str(marker))
    odd = "für 'a $(touch${IFS}$MARKER);\""
    moved = repository.rename(tmp_path / odd)
    for name in ("lost+found", "..data", ".git"):
        (moved / name).mkdir()
    (tmp_path / f"temporary {odd}").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / f"temporary {odd}"))
    monkeypatch.setenv("TMPDIR", tempfile.tempdir)
    with serve(on_free_ports(moved, model_control=control, extra_args=LOAD_ALL[control])) as server:
        with InferenceServerClient(server.grpc_url) as client:
            assert client.is_model_ready("good")
        folder = server.log_path.parent
    assert not marker.exists()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model_control": "explicit"}, "can load and unload models, register shared memory and change its log"),
        ({"host": "0.0.0.0"}, "whoever reaches its ports can register shared memory"),
        ({}, ""),
        ({"model_control": "explicit", "extra_args": ("--grpc-restricted-protocol=trace:admin-key=x",)}, ""),
    ],
)
def test_ports_without_a_key_are_said_to_be_open(settings: dict[str, Any], said: str) -> None:
    notice = open_ports(ServerSettings(repository=Path("model_repository"), **settings))
    assert (said in notice) if said else notice == ""
