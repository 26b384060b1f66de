"""Paths in the folder of an acceptance, and the options that decide its content."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundle_format.bundle import Precision
from training.ground.whole_file import write_whole_text

FORMAT_VERSION = 1
PARTS = ("training", "held_out")
SIDES = ("lr", "hr")


class Layout:
    """Paths of an acceptance.

    Attributes:
        root: The folder itself.
        record: Finished stages, see `record`.
        check: Findings on the images.
        split: Images in training, held out, and left out.
        data: Data root of the training: the images as 8-bit PNG, `PART/SIDE/NAME.png`.
        degradation: Estimated ranges of the degradation.
        plan: Start weights and steps of the training.
        run: Run folder of the training.
        bundle: The bundle.
        figures: Figures of the evaluation.
        pictures: Pictures of the evaluation.
        report: The report as HTML; `report_json` has the same figures.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.record = root / "accept.json"
        self.lock = root / ".lock"
        self.check = root / "check.json"
        self.split = root / "split.json"
        self.data = root / "data"
        self.degradation = root / "degradation.json"
        self.plan = root / "plan.json"
        self.run = root / "run"
        self.bundle = root / "bundle"
        self.figures = root / "figures.json"
        self.pictures = root / "pictures"
        self.report = root / "report.html"
        self.report_json = root / "report.json"

    def written(self) -> list[Path]:
        """Return every path that an acceptance writes, its record first."""
        return [
            self.record,
            self.check,
            self.split,
            self.data,
            self.degradation,
            self.plan,
            self.run,
            self.bundle,
            self.figures,
            self.pictures,
            self.report,
            self.report_json,
        ]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Options of an acceptance, checked.

    Attributes:
        lr: Folder of LR images.
        hr: Folder of HR images.
        pairs: Folders of the LR and HR images of aligned pairs; None for none.
        name: Name of the model.
        window: 16-bit values that become 0 and 255; None for the whole range.
        max_rows: Rows used of LR images, from the top; of HR the scale times as many.
        sources: CSV with the columns `file` and `src`; None for a file as its own source.
        held_out: Share of the sources that is held out.
        limit: Greatest number of images of each folder; None for all.
        is_order_sure: Whether folders that look swapped are accepted.
        minutes: Time budget of the whole command.
        steps: Training steps; None plans them from the budget.
        recipe: Recipe file.
        overrides: Changes to the recipe, `section.key=value`.
        start: `auto`, `shipped`, `fresh`, or the path of a checkpoint.
        baseline: Bundle to start from and to compare with.
        detector: Own detector; None for none.
        threshold: Least score of a detection.
        vgg16: Weights of the feature network; None for torchvision's.
        seed: Seed of split, degradation and training.
        threads: CPU threads of torch.
        tile: Height and width of the bundle's LR tile.
        precisions: Precisions of the bundle.
    """

    lr: Path
    hr: Path
    pairs: tuple[Path, Path] | None = None
    name: str
    window: tuple[int, int] | None = None
    max_rows: int | None = None
    sources: Path | None = None
    held_out: float = 0.2
    limit: int | None = None
    is_order_sure: bool = False
    minutes: float = 110.0
    steps: int | None = None
    recipe: Path
    overrides: tuple[str, ...] = field(default=())
    start: str = "auto"
    baseline: Path
    detector: Path | None = None
    threshold: float = 0.5
    vgg16: Path | None = None
    seed: int = 0
    threads: int = 2
    tile: tuple[int, int] = (240, 240)
    precisions: tuple[Precision, ...] = ("fp32", "fp16")


def write_json(path: Path, kind: str, content: dict[str, Any]) -> None:
    """Write a versioned JSON document, whole or not at all."""
    document = {"format_version": FORMAT_VERSION, "kind": f"semsr-acceptance-{kind}", **content}
    text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=True)
    write_whole_text(path, text + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a document that a finished stage wrote; the record has verified its digest."""
    return json.loads(path.read_text(encoding="utf-8"))
