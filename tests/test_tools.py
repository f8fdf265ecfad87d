"""Programs that tests need: found, or asked for in a way that can be followed."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.tools import LIST, require

INSTALL = LIST.with_name("install-system-tools")


def test_a_missing_program_skips_and_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("ALTRECO_REQUIRE_TOOLS", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"no promtool on the PATH: .*apt-get install prometheus"):
        require("promtool")
    monkeypatch.setenv("ALTRECO_REQUIRE_TOOLS", "1")
    with pytest.raises(pytest.fail.Exception, match="no promtool on the PATH"):
        require("promtool")


def test_kubectl_is_the_environments_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("ALTRECO_REQUIRE_TOOLS", "1")
    done = subprocess.run([require("kubectl"), "version", "--client"], capture_output=True, text=True, check=True)
    assert "Kustomize Version" in done.stdout


def install(programs: Path) -> subprocess.CompletedProcess[str]:
    """With nothing but these programs, and those that the script itself is made of."""
    for name in ("bash", "env", "dirname", "grep", "awk", "sort"):
        (programs / name).symlink_to(Path("/usr/bin") / name)
    return subprocess.run(
        [INSTALL], env=os.environ | {"PATH": str(programs)}, capture_output=True, text=True, check=False
    )


def test_where_nothing_can_be_installed_each_missing_program_is_named(tmp_path: Path) -> None:
    for found in ("chromium", "postgres"):
        (tmp_path / found).symlink_to("/usr/bin/true")
    done = install(tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == [
        "  strace: apt-get install strace",
        "  prometheus: apt-get install prometheus",
        "  promtool: apt-get install prometheus",
        "  openssl: apt-get install openssl",
        "  nginx: apt-get install nginx-light",
        "  node: apt-get install nodejs",
        "  npm: apt-get install npm",
        "  protoc: apt-get install protobuf-compiler",
        "  javac: apt-get install default-jdk-headless",
        "  grpc_java_plugin: apt-get install protobuf-compiler-grpc-java-plugin libgrpc-java libprotobuf-java "
        "libguava-java libgeronimo-annotation-1.3-spec-java",
    ]


def test_where_all_are_there_nothing_is_installed(tmp_path: Path) -> None:
    for line in LIST.read_text().splitlines():
        if not line.startswith("#"):
            (tmp_path / line.split()[0]).symlink_to("/usr/bin/true")
    assert install(tmp_path).returncode == 0
