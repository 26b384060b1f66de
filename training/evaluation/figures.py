"""Every figure of the report: its key in JSON, its name for people, its unit, where it stands.

One list for the tables, the explanations beside them and docs/evaluation.md, which a test compares.
"""

from dataclasses import dataclass
from typing import Literal

Section = Literal["detection", "defects", "background", "edges", "gradients", "consistency", "cost"]

SECTIONS: dict[Section, tuple[str, str]] = {
    "detection": (
        "Are defects found, and is nothing else?",
        "A detector trained on simulated true HR alone looks at every picture, at a threshold "
        "fixed on true HR. Its score on true HR is the ceiling; bicubic shows the floor.",
    ),
    "defects": (
        "Is a defect still the same thing?",
        "Every planted defect against the true HR of the same scene.",
    ),
    "background": (
        "Is the background natural?",
        "Defect-free tiles against real HR of other scenes, scene kind by scene kind. The floor is "
        "what two halves of the reference differ by.",
    ),
    "edges": (
        "Are edges where they belong?",
        "Line scenes; edges against the noise-free truth, profiles averaged over 8 rows.",
    ),
    "gradients": (
        "What do the gradient maps say?",
        "Magnitude of central differences on grey 0 to 1; aim at the values of true HR.",
    ),
    "consistency": (
        "Does the picture still show the LR tile?",
        "The picture averaged to LR pixels against the LR tile, where that has structure. True HR "
        "itself does not reach 1: the LR tile has noise, lag and jitter.",
    ),
    "cost": ("What does a tile cost?", "One tile at batch 1."),
}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One column of a table.

    Attributes:
        key: In the JSON.
        label: For people.
        section: The table.
        unit: Empty for shares and ratios.
        digits: Behind the point.
        better: high, low, or the value to come close to.
        meaning: One line.
    """

    key: str
    label: str
    section: Section
    unit: str = ""
    digits: int = 3
    better: str = "high"
    meaning: str = ""


FIGURES: tuple[Figure, ...] = (
    Figure(
        key="recall_unseen",
        label="recall, unseen kinds",
        section="detection",
        meaning="share of defects found, of kinds that no training plants",
    ),
    Figure(
        key="recall_planted",
        label="recall, planted kinds",
        section="detection",
        meaning="the same for kinds that a training may plant",
    ),
    Figure(
        key="recall",
        label="recall, all",
        section="detection",
        meaning="share of all defects found at the fixed threshold",
    ),
    Figure(
        key="recall_border",
        label="recall, border",
        section="detection",
        meaning="of defects that reach into the outer 16 px (box grown by 6 px)",
    ),
    Figure(
        key="alarms_per_tile",
        label="false alarms a tile",
        section="detection",
        better="low",
        meaning="detections on tiles without defects at the fixed threshold",
    ),
    Figure(
        key="border_alarms_per_tile",
        label="… in the outer 16 px",
        section="detection",
        better="low",
        meaning="those whose point lies in the outer 16 px",
    ),
    Figure(
        key="stray_alarms_per_tile",
        label="… beside defects",
        section="detection",
        better="low",
        meaning="detections on tiles with defects that hit none",
    ),
    Figure(
        key="recall_at_0.1",
        label="recall at 0.1 alarms",
        section="detection",
        meaning="recall at the method's own threshold for 0.1 false alarms a tile",
    ),
    Figure(
        key="froc_area",
        label="FROC area",
        section="detection",
        meaning="mean recall over 0 to 1 false alarm a tile, each method at its own thresholds",
    ),
    Figure(
        key="froc_area_unseen",
        label="FROC area, unseen",
        section="detection",
        meaning="the same over unseen kinds",
    ),
    Figure(
        key="contrast_ratio",
        label="contrast ratio, median",
        section="defects",
        better="1",
        meaning="(mean inside − mean of the ring around) over the same in true HR; sign kept",
    ),
    Figure(
        key="contrast_in_range",
        label="… share in 0.8 to 1.2",
        section="defects",
        meaning="share of defects whose contrast ratio lies in 0.8 to 1.2",
    ),
    Figure(
        key="contrast_ratio_unseen",
        label="… median, unseen kinds",
        section="defects",
        better="1",
        meaning="contrast ratio of unseen kinds",
    ),
    Figure(
        key="correlation",
        label="local correlation, mean",
        section="defects",
        meaning="Pearson's r with true HR in the box grown by 8 px, both low-passed (sigma 2 px)",
    ),
    Figure(
        key="correlation_unseen",
        label="… mean, unseen kinds",
        section="defects",
        meaning="local correlation of unseen kinds",
    ),
    Figure(
        key="correlation_min",
        label="… worst",
        section="defects",
        meaning="the smallest local correlation of all defects",
    ),
    Figure(
        key="spectrum_db",
        label="spectrum distance",
        section="background",
        unit="dB",
        digits=2,
        better="low",
        meaning="rms over radius of the difference of mean spectra, from 1/8 of Nyquist on",
    ),
    Figure(
        key="border_spectrum_db",
        label="… outer 16 px",
        section="background",
        unit="dB",
        digits=2,
        better="low",
        meaning="the same along the border, spectra of pixel lines parallel to it",
    ),
    Figure(
        key="kernel_distance",
        label="kernel distance",
        section="background",
        digits=4,
        better="low",
        meaning="unbiased MMD² of VGG16 features, cubic kernel; about 0 for equal sets",
    ),
    Figure(
        key="border_kernel_distance",
        label="… outer 16 px",
        section="background",
        digits=4,
        better="low",
        meaning="the same of features of the outer 16 px",
    ),
    Figure(
        key="noise_ratio",
        label="noise ratio",
        section="background",
        better="1",
        meaning="white-noise deviation over that of the reference",
    ),
    Figure(
        key="grey_distance",
        label="grey histogram W1",
        section="background",
        unit="grey",
        digits=2,
        better="low",
        meaning="Wasserstein distance of grey histograms",
    ),
    Figure(
        key="edge_placement_px",
        label="edge placement error",
        section="edges",
        unit="px",
        digits=2,
        better="low",
        meaning="distance of an edge from its true place, one shift a tile taken off; median of "
        "tile medians",
    ),
    Figure(
        key="edge_placement_p95_px",
        label="… 95 %",
        section="edges",
        unit="px",
        digits=2,
        better="low",
        meaning="median over tiles of the 95 % quantile",
    ),
    Figure(
        key="shift_px",
        label="shift",
        section="edges",
        unit="px",
        digits=2,
        better="0",
        meaning="the shift that was taken off: mean over tiles, across the lines",
    ),
    Figure(
        key="cd_bias_px",
        label="CD bias",
        section="edges",
        unit="px",
        digits=2,
        better="0",
        meaning="mean line width less the true one",
    ),
    Figure(
        key="roughness_ratio",
        label="roughness ratio",
        section="edges",
        digits=2,
        better="1",
        meaning="roughness along edges over the true one",
    ),
    Figure(
        key="lost_edges",
        label="lost edges",
        section="edges",
        better="low",
        meaning="share of true edges without an edge within 8 px",
    ),
    Figure(
        key="gradient_q50",
        label="median",
        section="gradients",
        digits=4,
        better="true HR",
        meaning="median gradient: mostly grain",
    ),
    Figure(
        key="gradient_q95",
        label="95 %",
        section="gradients",
        digits=4,
        better="true HR",
        meaning="95 % quantile: edges",
    ),
    Figure(
        key="gradient_q99",
        label="99 %",
        section="gradients",
        digits=4,
        better="true HR",
        meaning="99 % quantile: the strongest edges",
    ),
    Figure(
        key="gradient_distance",
        label="W1 to true HR",
        section="gradients",
        digits=4,
        better="low",
        meaning="Wasserstein distance of gradient histograms to true HR",
    ),
    Figure(
        key="thinness",
        label="ridge thinness",
        section="gradients",
        better="true HR",
        meaning="share of the strongest 5 % of pixels that are ridges; thin edges have more",
    ),
    Figure(
        key="flat_ratio",
        label="flat areas",
        section="gradients",
        better="1",
        meaning="mean gradient where the scene is flat, over that of true HR",
    ),
    Figure(
        key="consistency",
        label="correlation, mean",
        section="consistency",
        better="true HR",
        meaning="local correlation, mean over windows with structure",
    ),
    Figure(
        key="consistency_worst",
        label="… worst tile",
        section="consistency",
        meaning="smallest over tiles of the 1 % quantile within a tile",
    ),
    Figure(
        key="gmac",
        label="GMAC",
        section="cost",
        digits=1,
        better="low",
        meaning="multiply-adds of the network in 1e9",
    ),
    Figure(
        key="ms",
        label="time",
        section="cost",
        unit="ms",
        digits=1,
        better="low",
        meaning="measured, median at batch 1 on this machine",
    ),
)

BY_KEY = {figure.key: figure for figure in FIGURES}
