"""A fab's own defect detector as an ONNX file, used instead of the shipped one.

Contract, the same in docs/evaluation.md:

- one input of shape 1 x 1 x H x W (H and W free), float32 in 0 to 1 or uint8 in 0 to 255;
- an output `boxes`, N x 4 float32: left, top, right, bottom in pixels of that input;
- an output `scores`, N float32 in 0 to 1. Further outputs, such as labels, are not read.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# ONNX Runtime's wheels send usage reports over the network unless this is set before the import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime as ort

INPUT_TYPES = ("tensor(float)", "tensor(uint8)")


class OwnDetectorError(ValueError):
    """A file violates the contract above, in its declaration or in its answers."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """One detection: the middle of its box in HR pixels, and its score in 0 to 1."""

    x_px: float
    y_px: float
    score: float


class OnnxDetector:
    """Runs the detector on one CPU thread per process; the file is loaded at the first use.

    Args:
        path: ONNX file.
        threshold: Least score of a detection that counts as an alarm.
    """

    def __init__(self, path: Path, *, threshold: float) -> None:
        self.path = path
        self.threshold = threshold
        self._session: ort.InferenceSession | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Sessions cannot be sent to other processes; each loads its own.
        return {**self.__dict__, "_session": None}

    def check(self) -> None:
        """Load the file, and check its input and outputs.

        Raises:
            OwnDetectorError: The file cannot be loaded, or violates the contract.
        """
        self._loaded()

    def find(self, image: NDArray[np.uint8]) -> list[Found]:
        """List the detections in a grey picture, (H, W) uint8, at every score.

        Raises:
            OwnDetectorError: The model fails, or its outputs violate the contract.
        """
        session = self._loaded()
        given = session.get_inputs()[0]
        batch = np.ascontiguousarray(image[None, None])
        if given.type == "tensor(float)":
            batch = batch.astype(np.float32) / np.float32(255.0)
        try:
            boxes, scores = session.run(["boxes", "scores"], {given.name: batch})
        except Exception as error:  # ONNX Runtime's errors have no common class of their own
            raise OwnDetectorError(
                f"{self.path}: the detector failed on a picture of {image.shape}: {error}"
            ) from error
        boxes, scores = np.asarray(boxes), np.asarray(scores)
        if boxes.shape != (scores.size, 4) or scores.ndim != 1:
            raise OwnDetectorError(
                f"{self.path}: boxes are {boxes.shape} and scores {scores.shape}, expected N x 4 "
                "and N"
            )
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise OwnDetectorError(f"{self.path}: the detector gave NaN or infinity")
        return [
            Found(x_px=float(left + right) / 2, y_px=float(top + bottom) / 2, score=float(score))
            for (left, top, right, bottom), score in zip(boxes, scores, strict=True)
        ]

    def _loaded(self) -> ort.InferenceSession:
        if self._session is None:
            options = ort.SessionOptions()
            options.intra_op_num_threads = 1
            options.log_severity_level = 3
            try:
                session = ort.InferenceSession(
                    str(self.path), options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # see above
                raise OwnDetectorError(f"{self.path} is not a usable ONNX file: {error}") from error
            self._check(session)
            self._session = session
        return self._session

    def _check(self, session: ort.InferenceSession) -> None:
        inputs, outputs = session.get_inputs(), session.get_outputs()
        shapes = ", ".join(f"{item.name}: {item.type} {item.shape}" for item in inputs)
        expected = "expected one input of 1 x 1 x H x W, float32 or uint8"
        if len(inputs) != 1 or inputs[0].type not in INPUT_TYPES:
            raise OwnDetectorError(f"{self.path} takes {shapes}; {expected}")
        shape = inputs[0].shape
        if len(shape) != 4 or any(isinstance(side, int) and side != 1 for side in shape[:2]):
            raise OwnDetectorError(f"{self.path} takes {shapes}; {expected}")
        names = [item.name for item in outputs]
        missing = [name for name in ("boxes", "scores") if name not in names]
        if missing:
            raise OwnDetectorError(
                f"{self.path} has the outputs {', '.join(names)}; expected boxes (N x 4: left, "
                "top, right, bottom in pixels) and scores (N, 0 to 1)"
            )
