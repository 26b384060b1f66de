"""What Triton's clients ask before they send a tensor: configuration, statistics, extensions."""

from collections.abc import Callable

import numpy as np

from bundle_format.bundle import FLAGS
from tests.service.conftest import ServedApp

TILE = np.random.default_rng(3).integers(0, 256, (24, 24), dtype=np.uint8)


def test_the_configuration_has_what_clients_read(serve: Callable[..., ServedApp]) -> None:
    """Dimensions of one tile, Triton's names of types, and the batch that the service forms."""
    get = serve(max_batch_size=3).client.get
    config = get("/v2/models/identity/config").json()
    assert ("identity", "onnx_onnxv1") == (config["name"], config["platform"])
    assert get("/v2/models/identity").json()["platform"] == config["platform"]
    assert 3 == config["max_batch_size"]
    [lr] = config["input"]
    assert ("lr", "TYPE_UINT8", [1, 24, 24]) == (lr["name"], lr["data_type"], lr["dims"])
    assert (False, False) == (lr["is_shape_tensor"], lr["optional"])
    assert {"sr": ("TYPE_UINT8", [1, 96, 96]), "flags": ("TYPE_FP32", [len(FLAGS)])} == {
        output["name"]: (output["data_type"], output["dims"]) for output in config["output"]
    }
    assert {"latest": {"num_versions": 1}} == config["version_policy"]
    assert not config["model_transaction_policy"]["decoupled"]
    [group] = config["instance_group"]
    assert ("KIND_CPU", 1) == (group["kind"], group["count"])
    assert "dynamic_batching" in config
    assert "sequence_batching" not in config
    assert {"string_value": "4"} == config["parameters"]["scale"]


def test_the_configuration_of_a_version_is_that_of_the_model(
    serve: Callable[..., ServedApp],
) -> None:
    """And of another version there is none."""
    get = serve().client.get
    version = get("/model").json()["version"]
    expected = get("/v2/models/identity/config").json()
    assert expected == get(f"/v2/models/identity/versions/{version}/config").json()
    assert 404 == get("/v2/models/identity/versions/7/config").status_code
    assert 404 == get("/v2/models/other/config").status_code


def test_the_server_says_that_it_has_configurations(serve: Callable[..., ServedApp]) -> None:
    """As its extensions have it."""
    extensions = serve().client.get("/v2").json()["extensions"]
    assert {"model_configuration", "statistics", "binary_tensor_data"} <= set(extensions)


def test_statistics_have_every_part_that_perf_analyzer_reads(
    serve: Callable[..., ServedApp],
) -> None:
    """It ends where one is absent."""
    app = serve()
    app.client.post(
        "/v2/models/identity/infer",
        content=TILE.tobytes(),
        headers={"inference-header-content-length": "0"},
    )
    [stats] = app.client.get("/v2/models/identity/stats").json()["model_stats"]
    parts = stats["inference_stats"]
    assert {part: parts[part]["count"] for part in parts} == {
        "success": 1,
        "fail": 0,
        "queue": 1,
        "compute_input": 1,
        "compute_infer": 1,
        "compute_output": 1,
        "cache_hit": 0,
        "cache_miss": 0,
    }
    assert [] == [part for part in parts.values() if part["ns"] < 0]


def test_the_version_of_statistics_is_a_number_that_names_the_version(
    serve: Callable[..., ServedApp],
) -> None:
    """Triton's own clients read versions as 64-bit numbers; the address takes both forms."""
    get = serve().client.get
    version = get("/model").json()["version"]
    [stats] = get("/v2/models/identity/stats").json()["model_stats"]
    assert str(int(version, 16)) == stats["version"]
    assert int(stats["version"]) < 2**63
    metadata = get(f"/v2/models/identity/versions/{stats['version']}").json()
    assert [version] == metadata["versions"]


def test_a_tensor_that_is_sent_twice_is_refused(serve: Callable[..., ServedApp]) -> None:
    """As data and as bytes: either could be meant."""
    app = serve()
    entry = {
        "name": "lr",
        "datatype": "UINT8",
        "shape": [1, 1, 24, 24],
        "data": TILE.reshape(-1).tolist(),
    }
    path = "/v2/models/identity/infer"
    for change, words in (
        ({"parameters": {"binary_data_size": 0}}, "has both data and binary_data_size"),
        ({"parameters": {"shared_memory_region": "r"}}, "shared memory is not offered"),
        ({"data": TILE.reshape(12, 48).tolist()}, "data is nested as [12, 48]"),
    ):
        answer = app.client.post(path, json={"inputs": [{**entry, **change}]})
        assert 400 == answer.status_code
        assert words in answer.json()["detail"]
    outputs = [{"name": "sr"}, {"name": "sr", "parameters": {"binary_data": True}}]
    answer = app.client.post(path, json={"inputs": [entry], "outputs": outputs})
    assert 400 == answer.status_code
    assert "the output sr is requested twice" in answer.json()["detail"]
    region = {"name": "sr", "parameters": {"shared_memory_region": "r"}}
    answer = app.client.post(path, json={"inputs": [entry], "outputs": [region]})
    assert 400 == answer.status_code
    assert [] == app.engine.batches
