"""The model card: what a bundle was trained on and what it may be used for, in Markdown.

Made from the manifest alone, so that it cannot say anything that the manifest does not.
"""

import json
from collections.abc import Mapping
from typing import Any

from export.bundle import ParityFigures, SeamFigures
from export.trust_record import TrustRecord


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
    data = training.get("data", {})
    statements: Mapping[str, Any] = data if isinstance(data, Mapping) else {"statement": data}
    for key, title in (("statement", "What it was trained on"), ("credits", "Credits")):
        if statements.get(key):
            lines += ["", f"## {title}", "", str(statements[key])]
    lines += [
        "",
        "## Limits",
        "",
        "A model knows what it was trained on. On images of another tool, material, magnification",
        "or scan mode, judge its answers against slow scans before anything depends on them.",
    ]
    rest = {key: value for key, value in training.items() if key != "lr_domain"}
    if rest:
        text = json.dumps(rest, indent=2, sort_keys=True, ensure_ascii=False)
        lines += ["", "## Training record", "", "```json", text, "```"]
    return "\n".join(lines) + "\n"


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
    noise, domain = trust.noise, trust.domain
    return (
        f"noise variance {noise.base:.3g} + {noise.slope:.3g} grey, residual limit "
        f"{trust.residual_limit:.3g} by {trust.clean_tiles} clean tiles, domain distance limit "
        f"{domain.limit:.3g} by {domain.tiles} tiles"
    )


def _parity(figures: ParityFigures) -> str:
    return (
        f"max {figures.max_error:.0f}, mean {figures.mean_error:.6f} grey levels, "
        f"PSNR {figures.psnr_db:.1f} dB at least, over {figures.tiles} tiles "
        f"({', '.join(figures.engines)})"
    )
