"""Who sends a request: its API key, and the address of its connection."""

from collections.abc import Iterable


def identify(
    headers: Iterable[tuple[bytes, bytes]], peer: tuple[str, int] | None
) -> tuple[str | None, str]:
    """Return the API key of a request, if it has one, and the client's address.

    Args:
        headers: Names in lower case, and values.
        peer: Address and port of the client, or None if they are not known.
    """
    address = address_of(peer)
    for name, value in headers:
        if name == b"authorization":
            scheme, _, key = value.decode("latin-1").partition(" ")
            return (key.strip() if scheme.lower() == "bearer" else None), address
    return None, address


def address_of(peer: tuple[str, int] | None) -> str:
    """Return the address of a client, or `unknown`; see `identify`."""
    return str(peer[0]) if peer else "unknown"
