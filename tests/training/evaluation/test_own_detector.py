"""A fab's own detector as ONNX: its contract, and what breaks it."""

import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from semsr.own_detector import Found, OnnxDetector, OwnDetectorError


def _save(
    path: Path,
    *,
    input_type: int = TensorProto.FLOAT,
    input_shape: tuple[int | str, ...] = (1, 1, "h", "w"),
    names: tuple[str, str] = ("boxes", "scores"),
    box_shape: tuple[int, int] = (1, 4),
) -> Path:
    """Write a detector that always answers one box; its score is the picture's mean grey."""
    box = np.array([[10, 20, 30, 60]], np.float32)[:, : box_shape[1]]
    nodes = [
        helper.make_node("Cast", ["image"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["grey"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "one"], [names[1]]),
        helper.make_node("Identity", ["box"], [names[0]]),
    ]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("image", input_type, input_shape)],
        [
            helper.make_tensor_value_info(names[0], TensorProto.FLOAT, box_shape),
            helper.make_tensor_value_info(names[1], TensorProto.FLOAT, [1]),
        ],
        initializer=[
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
            helper.make_tensor("box", TensorProto.FLOAT, box.shape, box.ravel()),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path


def test_a_detector_of_floats_sees_grey_from_0_to_1(tmp_path: Path) -> None:
    """The point is the middle of its box, the score what the model says."""
    detector = OnnxDetector(_save(tmp_path / "d.onnx"), threshold=0.4)
    detector.check()

    [found] = detector.find(np.full((64, 48), 127.5 * 2, np.uint8))

    assert Found(x_px=20.0, y_px=40.0, score=1.0) == found


def test_a_detector_of_bytes_sees_grey_levels(tmp_path: Path) -> None:
    """A uint8 input gets the picture as it is, in another process too."""
    path = _save(tmp_path / "d.onnx", input_type=TensorProto.UINT8)
    detector = OnnxDetector(path, threshold=0.4)
    detector.check()
    travelled = pickle.loads(pickle.dumps(detector))  # noqa: S301 - made in this line

    assert 7.0 == travelled.find(np.full((64, 48), 7, np.uint8))[0].score


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_shape": (1, 3, "h", "w")}, r"expected one input of 1 x 1 x H x W"),
        ({"input_type": TensorProto.DOUBLE}, r"tensor\(double\).*float32 or uint8"),
        ({"names": ("b", "s")}, r"has the outputs b, s; expected boxes"),
    ],
)
def test_a_model_of_another_contract_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    """What it takes or gives is said beside what was expected, before any picture is judged."""
    path = _save(tmp_path / "d.onnx", **change)  # pyright: ignore[reportArgumentType]

    with pytest.raises(OwnDetectorError, match=message):
        OnnxDetector(path, threshold=0.5).check()


def test_boxes_of_another_shape_are_refused(tmp_path: Path) -> None:
    """Three numbers a box are no box."""
    detector = OnnxDetector(_save(tmp_path / "d.onnx", box_shape=(1, 3)), threshold=0.5)

    with pytest.raises(OwnDetectorError, match=r"boxes are \(1, 3\) and scores \(1,\)"):
        detector.find(np.zeros((64, 64), np.uint8))


def test_what_is_not_onnx_is_refused(tmp_path: Path) -> None:
    """The file is named."""
    (tmp_path / "d.onnx").write_bytes(b"no model")

    with pytest.raises(OwnDetectorError, match=r"d\.onnx is not a usable ONNX file"):
        OnnxDetector(tmp_path / "d.onnx", threshold=0.5).check()
