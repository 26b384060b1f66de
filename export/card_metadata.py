"""The front matter of a model card: YAML metadata by which model hubs and catalogues list a model.

The keys are those of Hugging Face's model cards. Scalars are written as JSON, which YAML includes.

Source: https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

import json
from collections.abc import Mapping
from typing import Any

_TAGS = ("super-resolution", "electron-microscopy", "semiconductor", "onnx")
_TASK = "image-to-image"


def front_matter(fields: Mapping[str, Any]) -> list[str]:
    """Write the front matter.

    It has a licence only if the training's data record states one, and figures only if the export
    measured them: the defect recall of each precision.

    Args:
        fields: The manifest's fields, without the file hashes.

    Returns:
        Lines of Markdown, the dashes around the metadata included; the same for the same fields.
    """
    training: Mapping[str, Any] = fields["training"]
    data = training.get("data", {})
    lines = ["---", "library_name: semsr", f"pipeline_tag: {_TASK}"]
    licence = data.get("licence") if isinstance(data, Mapping) else None
    if licence:
        lines.append(f"license: {json.dumps(licence)}")
    lines += ["tags:", *(f"- {tag}" for tag in _TAGS)]
    if training.get("method"):
        lines.append(f"- {json.dumps(training['method'])}")
    lines += _results(fields)
    return [*lines, "---", ""]


def _results(fields: Mapping[str, Any]) -> list[str]:
    """Write the measured recall, one result for each benchmark."""
    benchmarks: dict[str, dict[str, float]] = {}
    for precision, record in fields.get("recall", {}).items():
        recalls = benchmarks.setdefault(record.benchmark, {})
        recalls["fp32"] = record.fp32
        recalls[precision] = record.reduced
    if not benchmarks:
        return []
    lines = ["metrics:", "- recall", "model-index:", f"- name: {json.dumps(fields['name'])}"]
    lines.append("  results:")
    for benchmark, recalls in benchmarks.items():
        lines += [
            "  - task:",
            f"      type: {_TASK}",
            "    dataset:",
            "      name: semsr simulated benchmark",
            "      type: semsr-simulated",
            f"      revision: {json.dumps(benchmark)}",
            "    metrics:",
        ]
        for precision, recall in recalls.items():
            lines += [
                "    - type: recall",
                f"      value: {recall:.4f}",
                f"      name: {json.dumps(f'defect recall, {precision}')}",
            ]
    return lines
