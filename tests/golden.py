"""The golden vectors in client/protocol/golden, by which a port is checked without a server.

`python -m tests.golden` writes them anew: pictures, what the client makes of them, and a real Triton's answers.
"""

import hashlib
import io
import json
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import torch
from altreco_client import TagHistory, Vocabulary, contract, prepare
from altreco_client.vector import tag_counts
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from tritonclient.grpc import service_pb2 as pb

from export.release import Options, release
from tests.kept import FEW_TAGS, Kept
from tests.servers import serving
from training.checkpoint import load_checkpoint, save_checkpoint

FOLDER = Path(__file__).parents[1] / "client" / "protocol" / "golden"
FILE = FOLDER / "golden.json"
SERVICE = "/inference.GRPCInferenceService/"
ID = "golden"
"""The request id of every golden request."""
K = 5
SCALE = 0.1

SPECIAL = {7: "ratio:16:9", 21: "Z\u00fcrich", 35: "\u6d77", 36: "new york", 51: "caf\u00e9 ::", 59: "\U0001f308"}
TAGS = tuple(SPECIAL.get(i, f"tag-{i}") for i in range(FEW_TAGS))
HISTORY = {"ratio:16:9": 12, "Zu\u0308rich": 0.1, "tag-1": 3, "tag-3": 2, "tag-30": 1, "zeppelin": 4}
"""One tag is in another Unicode form than the vocabulary's, one is not in it, and 0.1 is no float32."""


@dataclass(frozen=True)
class Case:
    """One picture file, and the bytes and tags that belong to it."""

    file: Path
    request: bytes
    answer: bytes
    tags: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Golden:
    """All vectors. `answers` maps the bytes of each request, with its method, to those of its answer."""

    cases: tuple[Case, ...]
    answers: dict[tuple[str, bytes], bytes]


def read() -> Golden:
    """The committed vectors; each request is made from its parts and checked."""
    text = json.loads(FILE.read_text())
    metadata, vocabulary = text["metadata"], text["vocabulary"]
    learning = infer_request(np.zeros(contract.IMAGE.dims, np.uint8), np.zeros(len(TAGS), np.float32), len(TAGS))
    assert sha256(learning) == vocabulary["request_sha256"]
    answers = {
        ("ModelMetadata", bytes.fromhex(metadata["request"])): bytes.fromhex(metadata["answer"]),
        ("ModelInfer", learning): bytes.fromhex(vocabulary["answer"]),
    }
    cases = []
    for each in text["pictures"]:
        file, answer = FOLDER / each["file"], bytes.fromhex(each["answer"])
        tensor = prepare(file).tensor.tobytes()
        assert sha256(tensor) == each["tensor_sha256"], f"{file.name}: another tensor than when it was written"
        request = bytes.fromhex(text["request_start"]) + tensor + bytes.fromhex(text["request_end"])
        assert sha256(request) == each["request_sha256"], f"{file.name}: the request's parts are not its SHA-256's"
        answers["ModelInfer", request] = answer
        cases.append(Case(file, request, answer, tuple((name, score) for name, score in each["tags"])))
    return Golden(tuple(cases), answers)


@contextmanager
def replaying(golden: Golden) -> Iterator[str]:
    """Serve the recorded answers, at the address that is yielded; a request with other bytes is refused."""

    def method(name: str) -> grpc.RpcMethodHandler:
        def answer(request: bytes, call: grpc.ServicerContext) -> bytes:
            if (name, request) not in golden.answers:
                call.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{name}: {len(request)} bytes that are not golden")
            return golden.answers[name, request]

        return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(ThreadPoolExecutor(4))
    methods = {name: method(name) for name in ("ModelMetadata", "ModelInfer")}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("inference.GRPCInferenceService", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def repository(kept: Kept, path: Path) -> Path:
    """The tiny model with the golden vocabulary, and with scores far enough apart for every processor's rounding."""
    checkpoint = load_checkpoint(kept.checkpoint(tags=FEW_TAGS))
    with torch.no_grad():
        checkpoint.model.classifier.fc2.weight *= SCALE
    shutil.copytree(kept.few_tags(), path)
    save_checkpoint(path / "golden.pt", checkpoint)
    release(path / "golden.pt", path, Options(quiet=True))
    (path / "classifier" / contract.LABELS_FILE).write_text("".join(f"{tag}\n" for tag in TAGS), encoding="utf-8")
    return path


def infer_request(image: NDArray[np.uint8], counts: NDArray[np.float32], k: int) -> bytes:
    """The bytes of a ModelInferRequest for one picture, uint8 [224, 224, 3], and the counts, float32 [N]."""
    request = pb.ModelInferRequest(model_name=contract.TAG_RECOMMENDER.name, id=ID)
    for tensor, array in ((contract.IMAGE, image), (contract.USER_TAG_COUNTS, counts)):
        request.inputs.add(name=tensor.name, datatype=tensor.dtype, shape=(1, *array.shape))
        request.raw_input_contents.append(array.tobytes())
    request.outputs.add(name=contract.TAGS.name).parameters["classification"].int64_param = k
    return request.SerializeToString()


def read_tags(answer: bytes) -> list[tuple[str, float]]:
    """Names and scores of the first row of a ModelInferResponse."""
    contents, tags = pb.ModelInferResponse.FromString(answer).raw_output_contents[0], []
    while contents:
        end = 4 + int.from_bytes(contents[:4], "little")
        score, _, label = contents[4:end].decode().split(":", 2)
        tags.append((label, float(score)))
        contents = contents[end:]
    return tags


def send(channel: grpc.Channel, method: str, request: bytes) -> bytes:
    """The bytes of the server's answer."""
    answer: bytes = channel.unary_unary(SERVICE + method)(request, timeout=60)
    return answer


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pictures() -> Iterator[tuple[str, bytes]]:
    """The twelve files, made from one seed."""
    rng = np.random.default_rng(0)

    def drawn(width: int, height: int) -> Image.Image:
        x, y = np.linspace(0, 255, width)[None, :], np.linspace(0, 255, height)[:, None]
        pixels = np.stack(np.broadcast_arrays(x, y, 255 - (x + y) / 2), 2).astype(np.uint8)
        image = Image.fromarray(pixels)
        for _ in range(12):
            left, top = rng.integers(0, (width, height)).tolist()
            box = (left, top, left + width // 3, top + height // 3)
            ImageDraw.Draw(image).ellipse(box, fill=tuple(rng.integers(0, 256, 3).tolist()))
        return image

    def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    exif = Image.Exif()
    exif[0x0112] = 6
    opacity = Image.fromarray(np.tile(np.linspace(0, 255, 320).astype(np.uint8), (240, 1)))
    see_through = drawn(320, 240)
    see_through.putalpha(opacity)
    deep = np.asarray(drawn(280, 300).convert("L")).astype(np.uint16) * 200 + np.arange(280, dtype=np.uint16)
    frames = [drawn(300, 260).quantize(64) for _ in range(2)]
    yield "landscape.jpg", saved(drawn(400, 300), "JPEG", quality=85)
    yield "exif-6.jpg", saved(drawn(420, 300), "JPEG", quality=80, exif=exif)
    yield "cmyk.jpg", saved(drawn(300, 300).convert("CMYK"), "JPEG", quality=80)
    yield "progressive.jpg", saved(drawn(301, 397), "JPEG", quality=70, progressive=True, subsampling=0)
    yield "large.jpg", saved(drawn(1600, 1100), "JPEG", quality=40)
    yield "grey-16.png", saved(Image.fromarray(deep), "PNG")
    yield "transparent.png", saved(see_through, "PNG")
    yield "palette.png", saved(drawn(270, 330).quantize(32), "PNG", transparency=3)
    yield "thin.png", saved(drawn(333, 1), "PNG")
    yield "portrait.webp", saved(drawn(240, 360), "WEBP", quality=60)
    yield "grey.tiff", saved(drawn(200, 180).convert("L"), "TIFF", compression="tiff_lzw")
    yield "animation.gif", saved(frames[0], "GIF", save_all=True, append_images=frames[1:], transparency=5)


def write() -> None:
    """Write the pictures, and the vectors with the answers of a real Triton."""
    assert all(unicodedata.is_normalized("NFC", tag) for tag in TAGS)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    counts = tag_counts(TagHistory(HISTORY), Vocabulary(TAGS))
    metadata = pb.ModelMetadataRequest(name=contract.TAG_RECOMMENDER.name).SerializeToString()
    blank = infer_request(np.zeros(contract.IMAGE.dims, np.uint8), np.zeros_like(counts), len(TAGS))
    with tempfile.TemporaryDirectory() as folder:
        models = repository(Kept(Path(folder)), Path(folder) / "golden")
        with serving(models) as server, grpc.insecure_channel(server.grpc_url) as channel:
            learned = send(channel, "ModelInfer", blank)
            assert {name for name, _ in read_tags(learned)} == set(TAGS)
            entries = []
            for name, data in pictures():
                (FOLDER / name).write_bytes(data)
                tensor = prepare(data).tensor
                request = infer_request(tensor, counts, K)
                best = read_tags(send(channel, "ModelInfer", infer_request(tensor, counts, K + 1)))
                gaps = [one[1] - next_[1] for one, next_ in pairwise(best)]
                assert min(gaps) > 0.001, f"{name}: {best}: another processor might rank them otherwise"
                answer = send(channel, "ModelInfer", request)
                entries.append(
                    {
                        "file": name,
                        "tensor_sha256": sha256(tensor.tobytes()),
                        "request_sha256": sha256(request),
                        "answer": answer.hex(),
                        "tags": read_tags(answer),
                    }
                )
            start, end = request.split(tensor.tobytes())
            vectors = {
                "model": contract.TAG_RECOMMENDER.name,
                "id": ID,
                "k": K,
                "metadata": {"request": metadata.hex(), "answer": send(channel, "ModelMetadata", metadata).hex()},
                "vocabulary": {"request_sha256": sha256(blank), "answer": learned.hex(), "tags": TAGS},
                "history": HISTORY,
                "counts": counts.tobytes().hex(),
                "request_start": start.hex(),
                "request_end": end.hex(),
                "pictures": entries,
            }
    FILE.write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    write()
