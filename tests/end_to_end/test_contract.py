"""Clients and servers of different versions of the contract refuse each other."""

from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from altreco_client import ContractMismatch, PreparedImage, TagRecommender
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException

from tests.deploy.models import model, tensor, write_model
from tests.end_to_end.conftest import Served
from tests.servers import serving

N = 8
PICTURE = PreparedImage(np.zeros((224, 224, 3), np.uint8))
CONFIG = f"""
    backend: "onnxruntime"
    max_batch_size: 8
    input [
      {{ name: "IMAGE" data_type: TYPE_UINT8 dims: [ 224, 224, 3 ] }},
      {{ name: "NAME" data_type: TYPE_FP32 dims: [ {N} ] }}
    ]
    output [ {{ name: "TAGS" data_type: TYPE_FP32 dims: [ {N} ] label_filename: "tags.txt" }} ]
    instance_group {{ count: 1 kind: KIND_CPU }}
"""


def write_recommender(repository: Path, history_input: str) -> Path:
    """A tag_recommender that answers with its history, whose input has this name."""
    inputs = [tensor("IMAGE", ("batch", 224, 224, 3), TensorProto.UINT8), tensor(history_input, ("batch", N))]
    nodes = [helper.make_node("Identity", [history_input], ["TAGS"])]
    config = CONFIG.replace("NAME", history_input)
    write_model(repository, "tag_recommender", model(nodes, inputs, [tensor("TAGS", ("batch", N))]), config)
    (repository / "tag_recommender" / "tags.txt").write_text("".join(f"tag-{i}\n" for i in range(N)))
    return repository


@pytest.mark.parametrize(
    ("history_input", "message"),
    [
        ("USER_HISTORY", r"contract 1 \(USER_HISTORY\), this client speaks contract 2 .*: upgrade the server"),
        ("USER_HISTORY_3", r"speaks contract 2, expects USER_TAG_COUNTS .* If its contract is newer, upgrade altreco"),
    ],
)
def test_a_server_of_another_contract_is_refused(tmp_path: Path, history_input: str, message: str) -> None:
    with (
        serving(write_recommender(tmp_path, history_input)) as server,
        TagRecommender(server.grpc_url, deadline_s=30) as recommender,
        pytest.raises(ContractMismatch, match=message),
    ):
        recommender.recommend(PICTURE, {"tag-1": 1})


def test_a_server_that_becomes_an_old_one_is_refused_by_a_client_that_has_the_vocabulary(tmp_path: Path) -> None:
    with serving(write_recommender(tmp_path / "new", "USER_TAG_COUNTS")) as new:
        port = int(new.grpc_url.rpartition(":")[2])
        recommender = TagRecommender(new.grpc_url, deadline_s=30)
        answer = recommender.recommend(PICTURE, {"tag-1": 0.25, "tag-4": 0.75}, k=2)
        assert [(tag.name, tag.score) for tag in answer.tags] == [("tag-4", 0.75), ("tag-1", 0.25)]  # raw counts
    with (
        serving(write_recommender(tmp_path / "old", "USER_HISTORY"), grpc_port=port),
        recommender,
    ):
        recommender.wait_ready(30)
        with pytest.raises(ContractMismatch, match="speaks contract 1"):
            recommender.recommend(PICTURE, {"tag-1": 1})


def test_what_a_client_of_contract_1_sends_is_refused_and_not_misread(served: Served) -> None:
    tensors = [
        triton.InferInput("IMAGE", (1, 224, 224, 3), "UINT8"),
        triton.InferInput("USER_HISTORY", (1, 1540), "FP32"),
    ]
    tensors[0].set_data_from_numpy(np.zeros((1, 224, 224, 3), np.uint8))
    tensors[1].set_data_from_numpy(np.zeros((1, 1540), np.float32))
    with triton.InferenceServerClient(served.server.grpc_url) as client:
        names = [entry.name for entry in client.get_model_metadata("tag_recommender").inputs]
        with pytest.raises(InferenceServerException, match="USER_HISTORY"):
            client.infer("tag_recommender", tensors, client_timeout=30)
    assert names == ["IMAGE", "USER_TAG_COUNTS"]
