"""The protocol over gRPC, asked by its published client: the same bits and the same refusals as over HTTP."""

import socket
from pathlib import Path as FilePath

import numpy as np
import pytest
from served import PIXELS, copy_of, encoded, grow_two, logits_of, running

from mutant.serving.settings import ServeSettings
from mutant.storage import keys
from mutant.storage.store import Store

grpcclient = pytest.importorskip("tritonclient.grpc", reason="tritonclient has no wheel for this platform")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    return grow_two(tmp_path_factory.mktemp("served"))


def given(pixels: np.ndarray):
    tensor = grpcclient.InferInput("images", pixels.shape, "UINT8")
    tensor.set_data_from_numpy(pixels)
    return tensor


def test_the_published_client_over_grpc(database: FilePath) -> None:
    port = free_port()
    with (
        running(database, ServeSettings(grpc_port=port)),
        grpcclient.InferenceServerClient(f"127.0.0.1:{port}") as client,
    ):
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("low")
        metadata = client.get_model_metadata("low")
        assert [one.name for one in metadata.outputs] == ["logits", "probabilities", "label"]
        expected = logits_of(database, "low", PIXELS)
        outputs = [grpcclient.InferRequestedOutput("logits")]
        found = client.infer(
            "low", [given(PIXELS)], outputs=outputs, model_version=metadata.versions[0], request_id="x"
        )
        assert found.as_numpy("logits").tobytes() == expected.tobytes()
        assert (found.get_response().id, found.get_response().model_version) == ("x", metadata.versions[0])
        pictures = grpcclient.InferInput("images", [2], "BYTES")
        pictures.set_data_from_numpy(np.array([encoded(one) for one in PIXELS[:2]], dtype=object))
        assert client.infer("low", [pictures]).as_numpy("logits").tobytes() == expected[:2].tobytes()
        for name, tensor, words in [
            ("lov", given(PIXELS), "NOT_FOUND.*Nearest: 'low'"),
            ("low", given(PIXELS[:, :, :, :2]), "INVALID_ARGUMENT.*shape"),
        ]:
            with pytest.raises(grpcclient.InferenceServerException, match=words):
                client.infer(name, [tensor])


def test_keys_count_over_grpc_too(database: FilePath, tmp_path: FilePath) -> None:
    copy = copy_of(database, tmp_path)
    with Store.open(str(copy)) as store:
        key = keys.make(store, "reader")
    port = free_port()
    with running(copy, ServeSettings(grpc_port=port)), grpcclient.InferenceServerClient(f"127.0.0.1:{port}") as client:
        assert client.is_server_live()
        with pytest.raises(grpcclient.InferenceServerException, match="UNAUTHENTICATED"):
            client.infer("low", [given(PIXELS)])
        assert client.infer("low", [given(PIXELS)], headers={"authorization": f"Bearer {key}"}).as_numpy("logits").size
