"""The model card: what a bundle was trained on and what it may be used for, in Markdown.

It begins with metadata for catalogues (`card_metadata`).

The card is made from the manifest alone, so the two cannot disagree.
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from bundle_format.bundle import ParityFigures, SeamFigures
from bundle_format.trust_record import TrustRecord
from export.card_metadata import front_matter

METHODS = {
    "f_lsesim": (
        "From the published F-LSeSim (Zheng, Cham and Cai 2021) come the self-similarity of deep "
        "features, which compares the structure of the answer with that of the unpaired coarse "
        "tile, and the discriminator. The generator on the coarse grid, the pseudo-pairs from an "
        "estimated degradation with planted defects, the statistics and the consistency with the "
        "tile are semsr's own, because the published terms tie no grey level to the input and "
        "cost an erased defect less than new grain."
    ),
    "distillation": (
        "The network learned to give the structure and the grain that larger networks give on the "
        "same tiles."
    ),
    "lir": (
        "As published (Du, Chen and Yang 2020): encoders of LR and HR images share content codes, "
        "which adversaries keep alike, and a decoder turns the code of a coarse tile into an HR "
        "image. It was trained to compare with, not to serve."
    ),
    "supervised": "The network learned from HR images and their synthetic LR versions, by pixels.",
}
"""Each training method in words for the card."""


def model_card(fields: Mapping[str, Any]) -> str:
    """Write the card.

    Args:
        fields: The manifest's fields, without the file hashes.

    Returns:
        Markdown text, the same for the same fields.
    """
    training: Mapping[str, Any] = fields["training"]
    height, width = fields["tile"]
    scale = fields["scale"]
    generator = fields["generator"]
    lines = [
        *front_matter(fields),
        f"# Model card: {fields['name']}",
        "",
        f"Super-resolution of grey SEM tiles, {height}x{width} to "
        f"{scale * height}x{scale * width}, in one forward pass.",
        "",
        "| | |",
        "|---|---|",
        f"| generator | `{generator['name']}` {_inline(generator['hyper_parameters'])} |",
        f"| scale | {scale} |",
        f"| halo | {fields['halo_px']} LR px{_seams(fields)} |",
        f"| cost | {fields['gmac']:.1f} GMAC a tile |",
        f"| precision | {fields['precision']} |",
        f"| source checkpoint | sha256 `{fields['source_checkpoint_sha256']}` |",
    ]
    if fields.get("lr_domain"):
        lines.append(f"| LR domain (grey levels) | {_inline(fields['lr_domain'])} |")
    if fields.get("trust"):
        lines.append(f"| flags | {_trust(fields['trust'])} |")
    for precision, figures in fields["parity"].items():
        lines.append(f"| parity {precision} against FP32 torch | {_parity(figures)} |")
    sixteen_bit = fields.get("sixteen_bit")
    if sixteen_bit and sixteen_bit["parity"]:
        lines.append(f"| 16-bit answers against FP32 torch | {_parity(sixteen_bit['parity'])} |")
    data = training.get("data", {})
    statements: Mapping[str, Any] = data if isinstance(data, Mapping) else {"statement": data}
    if statements.get("statement"):
        lines += ["", "## What it was trained on", "", str(statements["statement"])]
    lines += _images(statements)
    lines += _how(training)
    if statements.get("credits"):
        lines += ["", "## Credits", "", str(statements["credits"])]
    lines += [
        "",
        "## Limits",
        "",
        "A model knows what it was trained on. On images of another tool, material, magnification",
        "or scan mode, judge its answers against slow scans before anything depends on them.",
        "Grain is made, not measured: it imitates a slow scan's noise and carries no information.",
        "",
        "The whole record of the training, the recipe and every file's name included, is in",
        "`manifest.json` under `training`.",
    ]
    return "\n".join(lines) + "\n"


def _images(statements: Mapping[str, Any]) -> list[str]:
    """List the training images by folder, with one table row for each folder."""
    names: Sequence[str] = statements.get("images", ())
    if not names:
        return []
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(str(PurePosixPath(name).parent), []).append(PurePosixPath(name).name)
    lines = ["", "| Folder | Images | From | To |", "|---|---|---|---|"]
    lines += [
        f"| `{folder}` | {len(files)} | `{min(files)}` | `{max(files)}` |"
        for folder, files in sorted(folders.items())
    ]
    for key, title in (("excluded_sources", "Kept out"), ("held_out_sources", "Held out")):
        if statements.get(key):
            lines += ["", f"{title}: " + ", ".join(f"`{name}`" for name in statements[key]) + "."]
    return lines


def _how(training: Mapping[str, Any]) -> list[str]:
    method = training.get("method")
    if method is None:
        return []
    lines = ["", "## How", "", f"Recipe `{training.get('name')}`, method `{method}`: "]
    lines[-1] += (
        f"{training.get('steps_done', training.get('steps'))} steps in "
        f"{training.get('precision', 'fp32')}, seed {training.get('seed')}."
    )
    start = training.get("started_from")
    if start:
        earlier = [
            f"{item.get('name')} ({item.get('steps_done')} steps)"
            for item in (start.get("training", {}), *start.get("earlier", ()))
        ]
        lines.append(f"It started from the weights of {', themselves from '.join(earlier)}.")
    if method in METHODS:
        lines += ["", METHODS[method]]
    return lines


def _inline(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _seams(fields: Mapping[str, Any]) -> str:
    seams: SeamFigures | None = fields.get("seams")
    if seams is None:
        return ""
    return (
        f", tiles start at multiples of {fields['grid_px']}; measured on {seams.images} images: "
        f"tiles differ from one whole pass by {seams.max_error} grey levels at most"
    )


def _trust(trust: TrustRecord) -> str:
    noise = trust.noise
    domains = " and ".join(
        f"{domain.limit:.3g} by {domain.tiles} tiles" for domain in trust.domains
    )
    return (
        f"noise variance {noise.base:.3g} + {noise.slope:.3g} grey, residual limit "
        f"{trust.residual_limit:.3g} by {trust.clean_tiles} clean tiles, domain distance limit "
        + domains
    )


def _parity(figures: ParityFigures) -> str:
    return (
        f"max {figures.max_error:.3g}, mean {figures.mean_error:.6f} grey levels, "
        f"PSNR {figures.psnr_db:.1f} dB at least, over {figures.tiles} tiles "
        f"({', '.join(figures.engines)})"
    )
