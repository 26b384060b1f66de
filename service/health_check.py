"""`python -m service.health_check`: exit code 0 if the service on this machine is alive, else 1.

For containers, which have no curl. Asks /livez, not /readyz: a drain must not get a container
killed. Runs every few seconds beside the service, so it reads two variables itself and imports no
settings.
"""

import http.client
import os
import ssl
import sys

TIMEOUT_S = 2.0


def is_alive() -> bool:
    """Ask /livez on this machine, by HTTPS where the service has a certificate."""
    port = int(os.environ.get("SEMSR_PORT") or 8000)
    if os.environ.get("SEMSR_TLS_CERT"):
        # Its own certificate, made for another name than this address: nothing to verify.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=TIMEOUT_S, context=context
        )
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_alive() else 1)
