"""The front matter of a model card: YAML that catalogues read, with measured figures alone."""

from typing import Any

import pytest
import yaml

from bundle_format.bundle import RecallRecord
from export.card_metadata import front_matter

BENCHMARK = "f2b1" * 16


def fields(**changes: object) -> dict[str, Any]:
    """Return what the front matter reads of a manifest."""
    data = {"statement": "made for a test", "licence": "apache-2.0"}
    training = {"method": "f_lsesim", "data": data}
    return {"name": "fine: 'x'", "training": training, "recall": {}, **changes}


def read(lines: list[str]) -> dict[str, Any]:
    """Read the YAML between the dashes."""
    assert ["---", "---", ""] == [lines[0], *lines[-2:]]
    return yaml.safe_load("\n".join(lines[1:-2]))


def test_it_says_what_the_model_is() -> None:
    """Task, library, licence and tags; the method is one of them."""
    metadata = read(front_matter(fields()))

    assert "image-to-image" == metadata["pipeline_tag"]
    assert "semsr" == metadata["library_name"]
    assert "apache-2.0" == metadata["license"]
    assert {"super-resolution", "onnx", "f_lsesim"} <= set(metadata["tags"])


def test_measured_recall_becomes_a_result_of_its_benchmark() -> None:
    """FP32 once, and each reduced precision; the values as measured."""
    record = RecallRecord(fp32=0.81156, reduced=0.80356, tiles=500, benchmark=BENCHMARK)
    other = record.model_copy(update={"reduced": 0.81156})
    metadata = read(front_matter(fields(recall={"int8": record, "bf16": other})))
    [model] = metadata["model-index"]
    [result] = model["results"]

    assert "fine: 'x'" == model["name"]
    assert BENCHMARK == result["dataset"]["revision"]
    assert "image-to-image" == result["task"]["type"]
    assert {
        "defect recall, fp32": 0.8116,
        "defect recall, int8": 0.8036,
        "defect recall, bf16": 0.8116,
    } == {metric["name"]: metric["value"] for metric in result["metrics"]}


@pytest.mark.parametrize("training", [{}, {"data": {}}, {"data": "a statement"}])
def test_nothing_is_claimed_that_is_not_known(training: dict[str, Any]) -> None:
    """Neither a licence nor a figure, for checkpoints of other origin too."""
    metadata = read(front_matter(fields(training=training)))

    assert {"library_name", "pipeline_tag", "tags"} == metadata.keys()
