"""Kubernetes objects against the fields and types of its API, without a cluster."""

import importlib
from typing import Any

import msgspec

# Where the API's types are, by the object's apiVersion.
_MODULES = {
    "v1": "core_v1",
    "apps/v1": "apps_v1",
    "networking.k8s.io/v1": "networking_v1",
    "policy/v1": "policy_v1",
}


def problem(manifest: dict[str, Any]) -> str | None:
    """Say what the API would refuse: an unknown or missing field, or a value of a wrong type.

    Args:
        manifest: An object of one of Kubernetes' own kinds.

    Returns:
        What is wrong, or None.
    """
    kind = manifest["kind"]
    module = importlib.import_module(f"lightkube.models.{_MODULES[manifest['apiVersion']]}")
    try:
        known = msgspec.to_builtins(msgspec.convert(manifest, getattr(module, kind)))
    except msgspec.ValidationError as error:
        return f"{kind}: {error}"
    # What the types do not know is lost on the way through them.
    return None if known == manifest else f"{kind}: unknown fields: {known} is left of {manifest}"
