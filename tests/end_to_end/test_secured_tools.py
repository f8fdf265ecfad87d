"""The repository's own tools against a server that wants a client's certificate and the operators' key."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from altreco_client import InvalidRequest

from deploy.access import ADMIN_KEY, Access
from export.__main__ import main as export
from export.config import released_version
from export.repository import pin
from export.served import loaded_releases
from loadtest.__main__ import main as loadtest
from loadtest.errors import LoadtestError
from loadtest.load.plan import VARIABLE, Plan, read_plan
from loadtest.load.workload import DEFAULT, load_workload
from loadtest.records import load_run
from loadtest.run.sampler import sampling
from tests.called import ROOT, called
from tests.end_to_end.conftest import Served
from tests.end_to_end.deployed import KEY, Deployed, deploying
from tests.end_to_end.slos import write_slos
from tests.kept import Kept

COMMANDS = {"export": export, "loadtest": loadtest}
TLS = ("--ca", "ca.pem", "--certificate", "client.pem", "--key", "client.key")
WITH_KEY = (*TLS, "--admin-key-file", "key")


@pytest.fixture(scope="module")
def secured(kept: Kept, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """In explicit control mode, with releases 1, which it serves, and 2; its certificates' folder has the key, too."""
    folder = tmp_path_factory.mktemp("secured")
    (folder / "key").write_text(f"{KEY}\n")
    (folder / "key").chmod(0o600)
    with deploying(kept.releases(1), folder, more=("--load-model=*",), model_control="explicit") as deployed:
        shutil.copytree(kept.releases(2), deployed.models, dirs_exist_ok=True)
        pin(deployed.models, 1)
        yield deployed


def run(secured: Deployed, *words: object, security: Sequence[str]) -> CompletedProcess[str]:
    """A command of COMMANDS in the certificates' folder, which is not the one that a load's processes run in."""
    command, *options = words
    secure = ("--url", secured.server.grpc_url, *security)
    return called(COMMANDS[str(command)], *options, *secure, folder=secured.certificates.folder)


def assert_refused(done: CompletedProcess[str], code: int, *words: str) -> None:
    """One line, of what it was and what to do."""
    assert done.returncode == code, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line


def test_verify(secured: Deployed) -> None:
    command = ("export", "verify", "--repository", secured.models, "--version", 1)
    assert_refused(run(secured, *command, security=TLS), 1, "This protocol is restricted", "--admin-key-file")
    assert_refused(run(secured, *command, security=()), 1, "Socket closed", "--ca, --certificate, --key")
    assert_refused(run(secured, *command, security=TLS[:2]), 1, "Socket closed", "--certificate")
    wrong_ca = ("--ca", "other-ca.pem", *TLS[2:])
    assert_refused(run(secured, *command, security=wrong_ca), 1, "CERTIFICATE_VERIFY_FAILED", "the CA that signed it?")
    assert_refused(run(secured, *command, security=("--ca", "nowhere.pem")), 1, "cannot read", "nowhere.pem")
    done = run(secured, *command, security=WITH_KEY)
    assert done.returncode == 0, done.stderr


def test_tls_to_a_server_without_it(secured: Deployed, served: Served) -> None:
    command = ("export", "verify", "--repository", secured.models, "--version", 1)
    plain = ("--url", served.server.grpc_url)  # the later one counts
    assert_refused(run(secured, *command, security=(*TLS, *plain)), 1, "WRONG_VERSION_NUMBER", "leave out --tls")


def test_the_key_can_be_any_header(secured: Deployed) -> None:
    command = ("export", "verify", "--repository", secured.models, "--version", 1)
    assert run(secured, *command, security=(*TLS, "--header", f"{ADMIN_KEY}={KEY}")).returncode == 0


def test_rollout_and_prune(secured: Deployed) -> None:
    models, access = secured.models, secured.access(KEY)
    command = ("export", "rollout", "--repository", models, "--to")
    assert_refused(run(secured, *command, 2, security=TLS), 1, "This protocol is restricted", "--admin-key-file")
    assert released_version(models) == 1
    assert loaded_releases(secured.server.grpc_url, access) == {1}
    done = run(secured, *command, 2, security=WITH_KEY)
    assert done.returncode == 0, done.stderr
    assert loaded_releases(secured.server.grpc_url, access) == {2}
    assert run(secured, *command, 1, security=WITH_KEY).returncode == 0
    pruning = ("export", "prune", "--repository", models, "--keep", 2)
    assert_refused(run(secured, *pruning, security=TLS), 1, "--admin-key-file")
    assert run(secured, *pruning, security=WITH_KEY).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_load_whose_folder_does_not_hold_the_key(secured: Deployed, tmp_path: Path, workers: int) -> None:
    slos = write_slos(tmp_path / "slos.toml")
    command = ("loadtest", "run", "--profile", "smoke", "--rate", 5, "--duration", 5, "--no-calibration")
    command += ("--out", tmp_path / "run", "--workers", workers, "--slos", slos)
    done = run(secured, *command, security=WITH_KEY)
    assert done.returncode == 0, done.stdout + done.stderr
    made = load_run(tmp_path / "run")
    assert len(made.records)
    assert (made.records.error == -1).all()
    assert made.settings.server_config is not None
    assert made.settings.server_config["models"]["classifier"]
    assert made.samples[-1]["models"]["tag_recommender"]["requests"] >= len(made.records)
    written = [file for file in (tmp_path / "run").rglob("*") if file.is_file()]
    assert {"run.json", "report.html", "locust.log"} <= {file.name for file in written}
    assert [file.name for file in written if KEY.encode() in file.read_bytes()] == []
    assert KEY not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [
        ("run", TLS, ("This protocol is restricted", "--admin-key-file")),
        ("run", (), ("Socket closed",)),
        ("run", (*TLS, "--admin-key-file", "nowhere"), ("--admin-key-file nowhere",)),
        ("run", (*TLS, "--admin-key-file", "empty"), ("is empty",)),
        ("run", (*TLS, "--header", "no-value"), ("expected NAME=VALUE",)),
        ("run", (*WITH_KEY, "--second-opinion"), ("perf_analyzer", "leave out --second-opinion")),
        ("capacity", TLS, ("This protocol is restricted", "--admin-key-file")),
        ("capacity", (), ("Socket closed",)),
    ],
)
def test_a_load_that_may_not_be(
    secured: Deployed, tmp_path: Path, command: str, options: Sequence[str], words: Sequence[str]
) -> None:
    (secured.certificates.folder / "empty").touch(0o600)
    slos = ("--slos", ROOT / "loadtest" / "slos" / "cpu.toml") if command == "capacity" else ()
    load = ("loadtest", command, "--out", tmp_path / "run", "--no-calibration", *slos)
    assert_refused(run(secured, *load, security=options), 2, *words)
    assert not (tmp_path / "run" / "run.json").exists()


def test_security_is_of_a_server_that_runs(tmp_path: Path) -> None:
    assert_refused(called(loadtest, "run", "--tls", "--out", tmp_path), 2, "give its --url too")


def test_statistics_of_a_server_that_keeps_them(secured: Deployed) -> None:
    server = secured.server
    with sampling(server.grpc_url, [], None, access=secured.access(KEY)) as samples:
        assert "classifier" in samples[0]["models"]
    with (
        pytest.raises(LoadtestError, match="--admin-key-file"),
        sampling(server.grpc_url, [], None, access=secured.access()),
    ):
        pass


def test_a_plan_reaches_its_process_whole_and_is_shown_without_the_key(secured: Deployed) -> None:
    access = secured.access("a-secret-key")
    plan = Plan(profile=None, workload=load_workload(DEFAULT), url="localhost:1", access=access, nonce=1)
    arrived = read_plan({VARIABLE: plan.environment()[VARIABLE]})
    assert arrived == plan
    assert "a-secret-key" not in repr(arrived)


def test_a_header_that_grpc_would_not_take_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="expected a name of letters"):
        Access(headers=(("grpc-key", "x"),)).recommender("localhost:1")
