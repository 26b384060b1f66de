"""List of the report's figures: JSON key, label, meaning, unit, and section.

The tables and their explanations use it; a test compares docs/evaluation.md with it.
"""

from training.evaluation.figure import Figure, Section

SECTIONS = (
    Section(
        key="detection",
        title="Are defects found, and is nothing else?",
        about="A detector trained on simulated true HR alone looks at every picture, at a "
        "threshold fixed on true HR. Its score on true HR is the ceiling; bicubic shows the "
        "floor.",
        figures=(
            Figure(
                "recall_unseen",
                "recall, unseen kinds",
                "share of defects found, of kinds that no training plants",
            ),
            Figure(
                "recall_planted",
                "recall, planted kinds",
                "the same for kinds that a training may plant",
            ),
            Figure("recall", "recall, all", "share of all defects found at the fixed threshold"),
            Figure(
                "recall_border",
                "recall, border",
                "of defects that reach into the outer 16 px (box grown by 6 px)",
            ),
            Figure(
                "alarms_per_tile",
                "false alarms a tile",
                "detections on tiles without defects at the fixed threshold",
                better="low",
            ),
            Figure(
                "border_alarms_per_tile",
                "… in the outer 16 px",
                "those whose point lies in the outer 16 px",
                better="low",
            ),
            Figure(
                "stray_alarms_per_tile",
                "… next to defects",
                "detections on tiles with defects that hit none",
                better="low",
            ),
            Figure(
                "recall_at_0.1",
                "recall at 0.1 alarms",
                "recall at the method's own threshold for 0.1 false alarms a tile",
            ),
            Figure(
                "froc_area",
                "FROC area",
                "mean recall over 0 to 1 false alarm a tile, each method at its own thresholds",
            ),
            Figure("froc_area_unseen", "FROC area, unseen", "the same over unseen kinds"),
        ),
    ),
    Section(
        key="defects",
        title="Is a defect still the same thing?",
        about="Every planted defect against the true HR of the same scene.",
        figures=(
            Figure(
                "contrast_ratio",
                "contrast ratio, median",
                "(mean inside − mean of the ring around) over the same in true HR; sign kept",
                better="1",
            ),
            Figure(
                "contrast_in_range",
                "… share in 0.8 to 1.2",
                "share of defects whose contrast ratio lies in 0.8 to 1.2",
            ),
            Figure(
                "contrast_ratio_unseen",
                "… median, unseen kinds",
                "contrast ratio of unseen kinds",
                better="1",
            ),
            Figure(
                "correlation",
                "local correlation, mean",
                "Pearson's r with true HR in the box grown by 8 px, both low-passed (sigma 2 px)",
            ),
            Figure(
                "correlation_unseen", "… mean, unseen kinds", "local correlation of unseen kinds"
            ),
            Figure("correlation_min", "… worst", "the smallest local correlation of all defects"),
        ),
    ),
    Section(
        key="background",
        title="Is the background natural?",
        about="Defect-free tiles against real HR of other scenes, scene kind by scene kind. The "
        "floor is what two halves of the reference differ by.",
        figures=(
            Figure(
                "spectrum_db",
                "spectrum distance",
                "rms over radius of the difference of mean spectra, from 1/8 of Nyquist on",
                unit="dB",
                digits=2,
                better="low",
            ),
            Figure(
                "border_spectrum_db",
                "… outer 16 px",
                "the same along the border, spectra of pixel lines parallel to it",
                unit="dB",
                digits=2,
                better="low",
            ),
            Figure(
                "kernel_distance",
                "kernel distance",
                "unbiased MMD² of VGG16 features, cubic kernel; about 0 for equal sets",
                digits=4,
                better="low",
            ),
            Figure(
                "border_kernel_distance",
                "… outer 16 px",
                "the same of features of the outer 16 px",
                digits=4,
                better="low",
            ),
            Figure(
                "noise_ratio",
                "noise ratio",
                "white-noise deviation over that of the reference",
                better="1",
            ),
            Figure(
                "edge_grain",
                "grain at edges",
                "deviation of grain along edges over that of flats of the same grey",
                better="1",
            ),
            Figure(
                "flat_grain_db",
                "grain of flats",
                "rms difference of the grain's power in flat places of equal grey, three bands",
                unit="dB",
                digits=2,
                better="low",
            ),
            Figure(
                "grey_distance",
                "grey histogram W1",
                "Wasserstein distance of grey histograms",
                unit="grey",
                digits=2,
                better="low",
            ),
        ),
    ),
    Section(
        key="edges",
        title="Are edges where they belong?",
        about="Line scenes; edges against the noise-free truth, profiles averaged over 8 rows.",
        figures=(
            Figure(
                "edge_placement_px",
                "edge placement error",
                "distance of an edge from its true place, one shift a tile taken off; median of "
                "tile medians",
                unit="px",
                digits=2,
                better="low",
            ),
            Figure(
                "edge_placement_p95_px",
                "… 95 %",
                "median over tiles of the 95 % quantile",
                unit="px",
                digits=2,
                better="low",
            ),
            Figure(
                "shift_px",
                "shift",
                "the shift that was taken off: mean over tiles, across the lines",
                unit="px",
                digits=2,
                better="0",
            ),
            Figure(
                "cd_bias_px",
                "CD bias",
                "mean line width less the true one",
                unit="px",
                digits=2,
                better="0",
            ),
            Figure(
                "roughness_ratio",
                "roughness ratio",
                "roughness along edges over the true one",
                digits=2,
                better="1",
            ),
            Figure(
                "lost_edges",
                "lost edges",
                "share of true edges without an edge within 8 px",
                better="low",
            ),
        ),
    ),
    Section(
        key="gradients",
        title="What do the gradient maps say?",
        about="Magnitude of central differences on grey 0 to 1; aim at the values of true HR.",
        figures=(
            Figure(
                "gradient_q50",
                "median",
                "median gradient: mostly grain",
                digits=4,
                better="true HR",
            ),
            Figure("gradient_q95", "95 %", "95 % quantile: edges", digits=4, better="true HR"),
            Figure(
                "gradient_q99",
                "99 %",
                "99 % quantile: the strongest edges",
                digits=4,
                better="true HR",
            ),
            Figure(
                "gradient_distance",
                "W1 to true HR",
                "Wasserstein distance of gradient histograms to true HR",
                digits=4,
                better="low",
            ),
            Figure(
                "thinness",
                "ridge thinness",
                "share of the strongest 5 % of pixels that are ridges; thin edges have more",
                better="true HR",
            ),
            Figure(
                "flat_ratio",
                "flat areas",
                "mean gradient where the scene is flat, over that of true HR",
                better="1",
            ),
        ),
    ),
    Section(
        key="consistency",
        title="Does the picture still show the LR tile?",
        about="The picture averaged to LR pixels against the LR tile, where that has structure. "
        "True HR itself does not reach 1: the LR tile has noise, lag and jitter.",
        figures=(
            Figure(
                "consistency",
                "correlation, mean",
                "local correlation, mean over windows with structure",
                better="true HR",
            ),
            Figure(
                "consistency_worst",
                "… worst tile",
                "smallest over tiles of the 1 % quantile within a tile",
            ),
        ),
    ),
    Section(
        key="cost",
        title="What does a tile cost?",
        about="One tile at batch 1.",
        figures=(
            Figure("gmac", "GMAC", "multiply-adds of the network in 1e9", digits=1, better="low"),
            Figure(
                "ms",
                "time",
                "measured, median at batch 1 on this machine",
                unit="ms",
                digits=1,
                better="low",
            ),
        ),
    ),
)

FIGURES = tuple(figure for section in SECTIONS for figure in section.figures)
BY_KEY = {figure.key: figure for figure in FIGURES}
