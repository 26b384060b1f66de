"""The sockets that clients connect to."""

import ipaddress
import socket

# Connections that wait in the kernel for a busy process.
BACKLOG = 2048


def listen(host: str, port: int, *, count: int) -> list[socket.socket]:
    """Open listening sockets; call it before models are loaded, so that a taken port fails early.

    Several sockets share the address, and the kernel distributes connections over them. Each front
    end has its own socket, so that a busy one takes no more than its share.

    Args:
        host: Name or address, IPv6 without brackets.
        port: TCP port; 0 takes a free one.
        count: Number of sockets.

    Returns:
        Listening sockets, all at the same address.

    Raises:
        OSError: The host has no address here, or another process listens there.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listeners: list[socket.socket] = []
    try:
        for index in range(count):
            listener = socket.socket(family, kind, protocol)
            listeners.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if index:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(address)
            # Two processes may both bind an address without a listener; only one can listen.
            listener.listen(BACKLOG)
            if not index and count > 1:
                # Only now: before, it would have shared the address with another service of this
                # user, which would have received a part of the connections.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            # With port 0 the first socket gets a free port, and the others take the same.
            address = listener.getsockname()
    except OSError:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def url_of(listener: socket.socket, *, is_tls: bool) -> str:
    """Return the URL by which a browser on this machine reaches a socket.

    Args:
        listener: A listening TCP socket.
        is_tls: Whether it speaks HTTPS.
    """
    host, port = listener.getsockname()[:2]
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.is_unspecified:
        host = "127.0.0.1" if address.version == 4 else "::1"
    host = f"[{host}]" if address.version == 6 else host
    return f"{'https' if is_tls else 'http'}://{host}:{port}/"
