"""Ways to compute a network alone, as options of `loadtests.gpu.network`; no torch here."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from bundle_format.bundle import Precision

PAPER = "paper"


@dataclass(frozen=True)
class Way:
    """How a network is computed.

    Attributes:
        autocast: Whether weights stay FP32 and torch converts the inputs of each convolution;
            without it, weights and activations have the precision from end to end.
        channels_last: Whether the channels of a pixel are next to each other in memory.
        graph: Whether a CUDA graph launches the layers; a CPU has none.
        compiled: Whether `torch.compile` makes the kernels.
    """

    autocast: bool = False
    channels_last: bool = True
    graph: bool = True
    compiled: bool = False

    @property
    def name(self) -> str:
        """Description for a table."""
        parts = [
            "autocast" if self.autocast else "one precision",
            "channels last" if self.channels_last else "channels first",
            "CUDA graph" if self.graph else "no graph",
        ]
        return ", ".join([*parts, "torch.compile"] if self.compiled else parts)


@dataclass(frozen=True)
class NetworkJob:
    """Measurements of one network.

    Attributes:
        bundle: Folder of its bundle; `paper` for the paper's generator with random weights.
        device: `cuda` or `cpu`.
        precision: Execution precision.
        batches: Tiles in a call.
        ways: Ways to compute it.
        seconds: Time for each way and batch size.
        tile: H and W of a tile; None takes the bundle's. The golden tile needs the bundle's.
    """

    bundle: str
    device: str
    precision: Precision
    batches: Sequence[int]
    ways: Sequence[Way]
    seconds: float
    tile: tuple[int, int] | None = None

    def as_json(self) -> str:
        """Return the options of the process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "NetworkJob":
        """Read `as_json`."""
        fields = json.loads(text)
        fields["ways"] = [Way(**way) for way in fields["ways"]]
        fields["tile"] = None if fields["tile"] is None else tuple(fields["tile"])
        return cls(**fields)
