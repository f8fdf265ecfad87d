"""The contract for ports and its golden vectors: pinned definitions, Python, and callers in other languages."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import grpc
import pytest
from altreco_client import TagHistory, TagRecommender, prepare
from filelock import FileLock
from google.protobuf import descriptor_pb2
from PIL import Image
from tritonclient.grpc import model_config_pb2, service_pb2

from tests import golden
from tests.client.pictures import detailed, encoded
from tests.end_to_end.conftest import Served
from tests.end_to_end.printed import ROOT
from tests.kept import Kept
from tests.servers import serving
from tests.tools import require

PROTOCOL = ROOT / "client" / "protocol"
EXAMPLES = ROOT / "client" / "examples"
BUILD = ROOT / "build" / "ports"
"""Kept between runs, because npm downloads 20 MB into it."""
JARS = ("grpc-api", "grpc-stub", "grpc-protobuf", "protobuf", "guava", "geronimo-annotation-1.3-spec")


def run(*command: object, folder: Path = ROOT) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def test_the_pinned_definitions_are_tritonclients(tmp_path: Path) -> None:
    run(require("protoc"), "-I", PROTOCOL, f"--descriptor_set_out={tmp_path}/set", *PROTOCOL.glob("*.proto"))
    compiled = descriptor_pb2.FileDescriptorSet.FromString((tmp_path / "set").read_bytes())
    assert len(compiled.file) == 2
    for file in compiled.file:
        expected = descriptor_pb2.FileDescriptorProto()
        {"grpc_service.proto": service_pb2, "model_config.proto": model_config_pb2}[file.name].DESCRIPTOR.CopyToProto(
            expected
        )
        for message in file.message_type:
            without_json_names(message)
        assert file == expected, f"{file.name}: pin the definitions of the tritonclient in constraints.txt"


def without_json_names(message: descriptor_pb2.DescriptorProto) -> None:
    """Clear what protoc adds, and what its generated code leaves out."""
    for field in message.field:
        field.ClearField("json_name")
    for nested in message.nested_type:
        without_json_names(nested)


def test_the_python_client_sends_the_golden_bytes() -> None:
    vectors = golden.read()
    with golden.replaying(vectors) as url, TagRecommender(url, deadline_s=30) as recommender:
        for case in vectors.cases:
            answer = recommender.recommend(case.file, TagHistory(golden.HISTORY), k=golden.K, request_id=golden.ID)
            assert [(tag.name, tag.score) for tag in answer.tags] == list(case.tags)
            assert answer.unknown_tags == ("zeppelin",)


def test_the_golden_pictures_are_those_of_the_script() -> None:
    assert {case.file.name: case.file.read_bytes() for case in golden.read().cases} == dict(golden.pictures())


@pytest.mark.slow
def test_the_golden_answers_are_tritons(kept: Kept, tmp_path: Path) -> None:
    models = golden.repository(kept, tmp_path / "golden")
    with serving(models) as server, grpc.insecure_channel(server.grpc_url) as channel:
        for (method, request), expected in golden.read().answers.items():
            answer = golden.send(channel, method, request)
            if method == "ModelMetadata":
                assert answer == expected
                continue
            served, recorded = (dict(golden.read_tags(each)) for each in (answer, expected))
            assert served == pytest.approx(recorded, abs=1e-4)
            if len(served) == golden.K:
                assert list(served) == list(recorded)


@pytest.fixture(scope="module")
def node() -> Path:
    """The folder of the built example, laid out as in the repository."""
    program, npm = require("node"), require("npm")
    source, folder = EXAMPLES / "node", BUILD / "client" / "examples" / "node"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(BUILD / "lock"):
        lock = (source / "package-lock.json").read_bytes()
        installed = folder / "node_modules" / hashlib.sha256(lock).hexdigest()
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules", "build"))
        shutil.copytree(PROTOCOL, BUILD / "client" / "protocol", dirs_exist_ok=True)
        if not installed.exists():
            run(npm, "ci", "--no-audit", "--no-fund", folder=folder)
            installed.touch()
        run(program, "node_modules/typescript/bin/tsc", folder=folder)
    return folder


@pytest.mark.slow
def test_the_port_for_node_is_equal_but_for_a_large_jpeg(node: Path) -> None:
    assert run("node", "build/golden.js", folder=node) == "equal, but for large.jpg\n"


@pytest.mark.slow
def test_another_picture_is_not_equal(node: Path) -> None:
    thin = BUILD / "client" / "protocol" / "golden" / "thin.png"
    thin.write_bytes((thin.parent / "palette.png").read_bytes())
    try:
        done = subprocess.run(["node", "build/golden.js"], cwd=node, capture_output=True, text=True, check=False)
    finally:
        shutil.copy(PROTOCOL / "golden" / "thin.png", thin)
    assert (done.returncode, done.stdout) == (1, "not equal: thin.png: tensor\n")


@pytest.mark.slow
def test_node_gets_the_python_clients_answers(
    node: Path, served: Served, recommender: TagRecommender, tmp_path: Path
) -> None:
    exif, photo, history = Image.Exif(), tmp_path / "photo.jpg", {"tag-3": 2, "tag-1000": 0.5}
    for orientation, size in ((2, (300, 400)), (5, (440, 290)), (7, (260, 700))):
        exif[0x0112] = orientation
        photo.write_bytes(encoded(detailed(*size), "JPEG", exif=exif))
        printed = run("node", "build/main.js", served.server.grpc_url, photo, json.dumps(history), folder=node)
        answer = recommender.recommend(photo, history, k=5)
        assert json.loads(printed) == [{"name": tag.name, "score": tag.score} for tag in answer.tags]


CHECK = """
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;

class Check {
  public static void main(String[] folder) throws Exception {
    byte[] counts = Files.readAllBytes(Path.of(folder[0], "counts"));
    float[] numbers = new float[counts.length / 4];
    ByteBuffer.wrap(counts).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(numbers);
    byte[] image = Files.readAllBytes(Path.of(folder[0], "tensor"));
    Files.write(Path.of(folder[0], "request"), Tags.request(image, numbers, 5, "golden").toByteArray());
  }
}
"""


@pytest.mark.slow
def test_java_makes_the_golden_request(tmp_path: Path) -> None:
    jars, plugin = [Path("/usr/share/java", f"{name}.jar") for name in JARS], shutil.which("grpc_java_plugin")
    if plugin is None or not shutil.which("javac") or not all(jar.exists() for jar in jars):
        pytest.skip("no Java with gRPC: on Debian, packages libgrpc-java and protobuf-compiler-grpc-java-plugin")
    case, text = golden.read().cases[0], json.loads(golden.FILE.read_text())
    (tmp_path / "tensor").write_bytes(prepare(case.file).tensor.tobytes())
    (tmp_path / "counts").write_bytes(bytes.fromhex(text["counts"]))
    (tmp_path / "Check.java").write_text(CHECK)
    out = [f"--{kind}_out={tmp_path}" for kind in ("java", "grpc-java")]
    definitions = (*PROTOCOL.glob("*.proto"), f"--plugin=protoc-gen-grpc-java={plugin}")
    run(require("protoc"), "-I", PROTOCOL, *out, *definitions)
    sources = [EXAMPLES / "java" / "Tags.java", *tmp_path.rglob("*.java")]
    classes = os.pathsep.join(map(str, [tmp_path, *jars]))
    run("javac", "-nowarn", "-cp", classes, "-d", tmp_path, *sources)
    run("java", "-cp", classes, "Check", tmp_path)
    assert (tmp_path / "request").read_bytes() == case.request


@pytest.mark.slow
def test_go_compiles(tmp_path: Path) -> None:
    libraries = Path("/usr/share/gocode/src/google.golang.org/grpc")
    if not all(map(shutil.which, ("go", "protoc-gen-go", "protoc-gen-go-grpc"))) or not libraries.exists():
        pytest.skip("no Go with gRPC: on Debian, packages golang-google-grpc-dev and protoc-gen-go-grpc")
    package = tmp_path / "src" / "example" / "inference"
    package.mkdir(parents=True)
    names = ",".join(f"M{file.name}=example/inference" for file in PROTOCOL.glob("*.proto"))
    out = [f"--{kind}_{option}" for kind in ("go", "go-grpc") for option in (f"out={tmp_path}/src", f"opt={names}")]
    run(require("protoc"), "-I", PROTOCOL, *out, *PROTOCOL.glob("*.proto"))
    shutil.copytree(EXAMPLES / "go", tmp_path / "src" / "example" / "tags")
    path = {"GO111MODULE": "off", "GOPATH": f"{tmp_path}:/usr/share/gocode", "GOCACHE": str(BUILD / "go")}
    done = subprocess.run(
        ["go", "vet", "example/tags"], env=os.environ | path, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
