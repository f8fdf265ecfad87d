"""The contract for ports and its golden vectors: pinned definitions, Python, Java and Go."""

import json
import os
import shutil
from pathlib import Path

import grpc
import pytest
from altreco_client import TagHistory, TagRecommender, prepare
from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2, service_pb2

from tests import golden
from tests.end_to_end.printed import ROOT, commands, program, run
from tests.kept import Kept
from tests.servers import serving
from tests.tools import require

PROTOCOL = ROOT / "client" / "protocol"
EXAMPLES = ROOT / "client" / "examples"
NAMES = ("grpc-api", "grpc-stub", "grpc-protobuf", "protobuf", "guava", "geronimo-annotation-1.3-spec")
JARS = [Path("/usr/share/java", f"{name}.jar") for name in NAMES]
QUICK = ("-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC")
"""Java does not optimize javac itself, which ends before that pays."""
GO_LIBRARIES = [Path("/usr/share/gocode/src/google.golang.org", name) for name in ("grpc", "protobuf")]


def test_the_pinned_definitions_are_tritonclients(tmp_path: Path) -> None:
    program(require("protoc"), "-I", PROTOCOL, f"--descriptor_set_out={tmp_path}/set", *PROTOCOL.glob("*.proto"))
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
    javac, _ = require("javac"), require("grpc_java_plugin")
    case, text = golden.read().cases[0], json.loads(golden.FILE.read_text())
    (tmp_path / "tensor").write_bytes(prepare(case.file).tensor.tobytes())
    (tmp_path / "counts").write_bytes(bytes.fromhex(text["counts"]))
    (tmp_path / "Check.java").write_text(CHECK)
    generate("--java_out=", tmp_path)
    sources = [EXAMPLES / "java" / "Tags.java", *tmp_path.rglob("*.java")]
    classes = os.pathsep.join(map(str, [tmp_path, *JARS]))
    program(javac, *QUICK, "-nowarn", "-proc:none", "-cp", classes, "-d", tmp_path, *sources)
    program("java", "-cp", classes, "Check", tmp_path)
    assert (tmp_path / "request").read_bytes() == case.request


@pytest.mark.slow
def test_go_compiles(tmp_path: Path) -> None:
    found = [*map(shutil.which, ("go", "protoc-gen-go", "protoc-gen-go-grpc")), *map(Path.exists, GO_LIBRARIES)]
    if not all(found):
        packages = "golang-go golang-google-grpc-dev golang-google-protobuf-dev protoc-gen-go protoc-gen-go-grpc"
        pytest.skip(f"no Go with gRPC, which CI does not install for its size: apt-get install {packages}")
    package = tmp_path / "src" / "example" / "inference"
    package.mkdir(parents=True)
    generate("--go_out=", tmp_path / "src")
    shutil.copytree(EXAMPLES / "go", tmp_path / "src" / "example" / "tags")
    path = {"GO111MODULE": "off", "GOPATH": f"{tmp_path}:/usr/share/gocode", "GOCACHE": str(ROOT / "build/ports/go")}
    program("env", *(f"{name}={value}" for name, value in path.items()), "go", "vet", "example/tags")


def generate(option: str, folder: Path) -> None:
    """Run the command that docs/protocol.md prints for a language's stubs."""
    require("protoc")
    [command] = [each for each in commands((ROOT / "docs" / "protocol.md").read_text()) if option in each]
    run(command.replace("OUT", str(folder)))
