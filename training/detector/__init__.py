"""The judge of the evaluation: a small detector trained on simulated review images only.

It stands for a fab's own detector: it knows every kind of defect as review sees it, and never saw
an inspection tile nor a super-resolved one. Super-resolved images are judged by what it finds.

Flow: `tiles` simulates labelled review tiles -> `crops` draws batches -> `train` fits the `network`
with `loss` -> `calibration` sets the threshold on fresh clean tiles -> `weight_file` keeps it all.
`detector` (with `peaks`) is what the evaluation runs.
"""

from training.detector.detector import Detector
from training.detector.peaks import Detection
from training.detector.weight_file import DetectorFileError, load_detector, save_detector

__all__ = ["Detection", "Detector", "DetectorFileError", "load_detector", "save_detector"]
