"""Generator to ONNX: one graph from uint8 tiles to uint8 tiles and their flags, sizes left free.

The graph contains every step between the bytes: cast, scaling to [0, 1], the network in its merged
form, clamping, rounding and the cast back. Engines feed and read grey levels, so none scales or
rounds by itself.
"""

import warnings

import onnx
import torch
from torch import nn

from bundle_format.trust_record import TrustRecord
from export.quality_flags import QualityFlags
from models import Generator

OPSET = 18
WHITE = 255.0


class GreyLevels(nn.Module):
    """A generator from uint8 to uint8 grey levels, as it is traced into the ONNX graph."""

    def __init__(
        self,
        generator: Generator,
        trust: TrustRecord | None = None,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Take the merged form of `generator`.

        Args:
            generator: Generator, of which a copy is taken.
            trust: Limits of the trust flags.
            dtype: Type of the network's weights and activations. Scaling, rounding and flags stay
                in float32: half of the bits cannot hold 255 greys and the steps between them.
        """
        super().__init__()
        self.scale = generator.scale
        self.network = generator.merged().to(dtype)
        self._dtype = dtype
        self.judge = QualityFlags(scale=generator.scale, trust=trust)
        self.eval()

    def forward(self, lr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Enlarge (N, 1, H, W) uint8, and judge the answers.

        Returns:
            (N, 1, scale*H, scale*W) uint8, halves rounded to even, and (N, K) float32, see
            `export.quality_flags`.
        """
        clamped, flags = self.clamped(lr)
        # The cast is last: TensorRT takes uint8 at a graph's ends alone.
        return torch.round(clamped * WHITE)[:, None].to(torch.uint8), flags

    def clamped(self, lr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Enlarge (N, 1, H, W) uint8 to (N, scale*H, scale*W) float32 in [0, 1], and judge it."""
        image = lr.float() / WHITE
        sr = self.network(image.to(self._dtype)).float()
        # Without the channel: OpenVINO works through an only channel one value at a time.
        clamped = torch.clamp(sr[:, 0], 0.0, 1.0)
        return clamped, self.judge(image, sr, clamped[:, None])


def to_onnx(
    generator: Generator, *, tile: tuple[int, int], trust: TrustRecord | None = None
) -> bytes:
    """Export a generator as an ONNX model.

    Args:
        generator: Generator, whose merged form is exported.
        tile: Height and width in LR pixels of the example that is traced; both stay free.
        trust: Limits of the flags `residual` and `domain_distance`.

    Returns:
        A serialised ONNX model (opset 18): `lr` uint8 (N, 1, H, W) to `sr` uint8
        (N, 1, scale*H, scale*W) and `flags` float32 (N, K), the same bytes for the same weights.
    """
    height, width = tile
    # A batch of two: the exporter would take a batch of one for a constant.
    example = torch.zeros(2, 1, height, width, dtype=torch.uint8)
    free = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    with warnings.catch_warnings():
        # The exporter warns of its own internals' deprecations, which cannot be changed here.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            GreyLevels(generator, trust),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["lr"],
            output_names=["sr", "flags"],
            dynamic_shapes={"lr": free},
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the ONNX exporter gave no program")
    model = program.model_proto
    _strip_provenance(model)
    _name_axes(model)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def _strip_provenance(model: onnx.ModelProto) -> None:
    """Remove stack traces and source paths of the exporting machine from the graph."""
    del model.metadata_props[:]
    model.doc_string = ""
    graph = model.graph
    graph.doc_string = ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]


def _name_axes(model: onnx.ModelProto) -> None:
    """Give the free axes of input and outputs readable names."""
    for value, names in (
        (model.graph.input[0], ("N", None, "H", "W")),
        (model.graph.output[0], ("N", None, "sH", "sW")),
        (model.graph.output[1], ("N", None)),
    ):
        for axis, name in zip(value.type.tensor_type.shape.dim, names, strict=True):
            if name is not None:
                axis.ClearField("dim_value")
                axis.dim_param = name
