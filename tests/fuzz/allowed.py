"""Where we read on purpose what a strict decoder refuses, each with its reason; nothing else may."""


def reason_for(body: bytes, media_type: str, refusal: str) -> str | None:
    """Return why a file may be read although the strict decoder refuses it, or None."""
    return None
