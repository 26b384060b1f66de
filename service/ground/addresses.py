"""Network addresses as settings give them."""

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode


def _host(value: str) -> str:
    host = value.strip()
    if host.startswith("[") and host.endswith("]"):
        host = str(ipaddress.IPv6Address(host[1:-1]))
    if not host or any(sign in host for sign in "[]/ "):
        raise ValueError("expected an address or a name, without port; IPv6 such as ::1 or [::1]")
    return host


def _networks(value: object) -> object:
    if not isinstance(value, str):
        return value
    # One with host bits set is refused: it is rarely what was meant.
    return tuple(str(ipaddress.ip_network(part.strip())) for part in value.split(","))


Host = Annotated[str, AfterValidator(_host)]
"""Address or name to listen on; brackets of an IPv6 address are removed."""

Networks = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_networks)]
"""Addresses and networks, separated by commas; each becomes ADDRESS/BITS."""
