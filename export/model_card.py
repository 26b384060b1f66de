"""The model card: what a bundle was trained on and what it may be used for, in Markdown.

Made from the manifest alone, so that it cannot say anything that the manifest does not.
"""

import json
from collections.abc import Mapping
from typing import Any

from export.bundle import ParityFigures

# Shown first, in this order, as prose; everything else follows as it is.
_PROSE = ("summary", "data", "degradation", "limits", "credits")


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
        f"| halo | {fields['halo_px']} LR px |",
        f"| precision | {fields['precision']} |",
        f"| source checkpoint | sha256 `{fields['source_checkpoint_sha256']}` |",
    ]
    if fields.get("lr_domain"):
        lines.append(f"| LR domain (grey levels) | {_inline(fields['lr_domain'])} |")
    for precision, figures in fields["parity"].items():
        lines.append(f"| parity {precision} against FP32 torch | {_parity(figures)} |")
    for key in _PROSE:
        if key in training:
            lines += ["", f"## {key.capitalize()}", "", _prose(training[key])]
    rest = {key: value for key, value in training.items() if key not in (*_PROSE, "lr_domain")}
    if rest:
        text = json.dumps(rest, indent=2, sort_keys=True, ensure_ascii=False)
        lines += ["", "## Training record", "", "```json", text, "```"]
    return "\n".join(lines) + "\n"


def _inline(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _parity(figures: ParityFigures) -> str:
    return (
        f"max {figures.max_error:.0f}, mean {figures.mean_error:.6f} grey levels "
        f"over {figures.tiles} tiles"
    )


def _prose(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(f"- {_prose(item)}" for item in value)
    if isinstance(value, Mapping):
        return "\n".join(f"- {key}: {_prose(item)}" for key, item in value.items())
    return str(value)
