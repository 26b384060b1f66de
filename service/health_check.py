"""`python -m service.health_check`: exit code 0 if the service on this machine is alive, else 1.

For containers, which have no curl. Asks /livez, not /readyz: a drain must not get a container
killed. Runs every few seconds next to the service, so it reads its three variables itself and
imports no settings.
"""

import contextlib
import http.client
import os
import ssl
import sys

TIMEOUT_S = 2.0
# A service that listens on every interface is checked on the loopback interface.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 (nothing is bound)


def is_alive() -> bool:
    """Ask /livez where the settings say that the service listens, by HTTPS if it has a certificate.

    Raises:
        ValueError: The port is not a number.
    """
    host = _setting("HOST", "127.0.0.1").strip().removeprefix("[").removesuffix("]")
    host = _LOOPBACK.get(host, host)
    port = int(_setting("PORT", "8000"))
    if _setting("TLS_CERT", ""):
        # Its own certificate, made for another name than this address: nothing to verify.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/livez")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


def _setting(name: str, default: str) -> str:
    """Read a setting as `service.settings` does: in any case, and empty means unset."""
    for variable, value in os.environ.items():
        if variable.upper() == f"SEMSR_{name}" and value:
            return value
    return default


if __name__ == "__main__":
    sys.exit(0 if is_alive() else 1)
