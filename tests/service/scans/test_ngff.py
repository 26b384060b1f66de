"""OME-NGFF metadata of Zarr stacks, by the rules of the specification 0.5 and its JSON schema."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.scans.ngff import group_metadata
from tests.scans import scan, write_lot

KNOWN_TYPES = ("time", "channel", "space")


def check_multiscales(attributes: dict[str, Any], *, dimensions: list[str]) -> dict[str, Any]:
    """Check the rules for one multiscale image; returns it."""
    ome = attributes["ome"]
    assert "0.5" == ome["version"]
    [image] = ome["multiscales"]
    assert {"axes", "datasets"} <= set(image) <= {"axes", "datasets", "name", "type", "metadata"}
    axes = image["axes"]
    names, types = ([axis[key] for axis in axes] for key in ("name", "type"))
    assert 2 <= len(axes) <= 5
    assert len(names) == len(set(names))
    assert 2 <= types.count("space") <= 3
    assert sum(kind not in KNOWN_TYPES for kind in types) <= 1
    # "ordered by type": time, then a channel or custom axis, then space.
    ranks = [{"time": 0, "space": 2}.get(kind, 1) for kind in types]
    assert sorted(ranks) == ranks
    assert names == dimensions
    for dataset in image["datasets"]:
        [scale] = dataset["coordinateTransformations"]
        assert ("scale", len(axes)) == (scale["type"], len(scale["scale"]))
        assert all(isinstance(factor, float) and factor > 0 for factor in scale["scale"])
    return image


@pytest.mark.parametrize("size", [None, [4.0, 8.0]])
def test_a_stack_keeps_the_rules(size: list[float] | None) -> None:
    """With and without a pixel size, which is width and height, unlike the axes."""
    group = json.loads(group_metadata("lot7", size))

    assert (3, "group") == (group["zarr_format"], group["node_type"])
    image = check_multiscales(group["attributes"], dimensions=["tile", "y", "x"])
    units = {axis.get("unit") for axis in image["axes"] if axis["type"] == "space"}
    [dataset] = image["datasets"]
    [scale] = dataset["coordinateTransformations"]
    assert ("lot7", "0") == (image["name"], dataset["path"])
    if size is None:
        assert ({None}, [1.0, 1.0, 1.0]) == (units, scale["scale"])
    else:
        assert ({"nanometer"}, [1.0, 8.0, 4.0]) == (units, scale["scale"])


def test_the_reference_models_accept_it(tmp_path: Path) -> None:
    """Where the package ome-zarr-models is installed; no environment of the project has it."""
    models = pytest.importorskip("ome_zarr_models.v05")
    zarr = pytest.importorskip("zarr")
    write_lot(tmp_path / "lot", 3)
    scan(tmp_path / "lot", tmp_path / "out.zarr")

    image = models.Image.from_zarr(zarr.open_group(tmp_path / "out.zarr", mode="r"))

    assert "0" == image.ome_attributes.multiscales[0].datasets[0].path


def test_a_scan_writes_it_and_reads_it_again(tmp_path: Path) -> None:
    """The group lies next to the array, whose dimensions have the axes' names; a source as well."""
    zarr = pytest.importorskip("zarr")
    write_lot(tmp_path / "lot", 3)
    for index in range(3):
        facts = {"pixel_size_nm": [4, 8], "lot": "L7"}
        (tmp_path / "lot" / f"t{index:05d}.json").write_text(json.dumps(facts))
    sink = tmp_path / "night.zarr"

    scan(tmp_path / "lot", sink)

    group = zarr.open_group(sink, mode="r")
    array = group["0"]
    image = check_multiscales(dict(group.attrs), dimensions=list(array.metadata.dimension_names))
    [scale] = image["datasets"][0]["coordinateTransformations"]
    assert "night" == image["name"]
    assert [1.0, 2.0, 1.0] == scale["scale"]
    assert "L7" == array.attrs["lot"]
    again = scan(sink, tmp_path / "again.zarr")
    assert (3, 0) == (again.counts.done, again.counts.failed)
    enlarged = zarr.open_group(tmp_path / "again.zarr", mode="r")["0"]
    np.testing.assert_array_equal(np.asarray(array[1]).repeat(4, 0).repeat(4, 1), enlarged[1])
