"""nginx, which serves a file of the answer's size: the baseline of HTTP on this machine."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ANSWER_PATH = "/answer"
_START_TIMEOUT_S = 10.0

# One worker: a single event loop, as our service has. A POST to a file is not allowed in nginx;
# answering that error with the file itself is the usual workaround.
_CONFIGURATION = """\
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
  access_log off;
  sendfile on;
  client_max_body_size 1m;
  client_body_buffer_size 1m;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000;
  server {{
    listen 127.0.0.1:{port};
    root {folder}/files;
    location / {{ error_page 405 =200 $uri; }}
  }}
}}
"""


def nginx_path() -> str | None:
    """Find nginx; Debian keeps it where ordinary users do not look."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def running_nginx(content: bytes) -> Iterator[tuple[str, int]]:
    """Serve `content` as `/answer` on a free port until the block ends.

    Raises:
        RuntimeError: nginx is not installed or does not start.
    """
    program = nginx_path()
    if program is None:
        raise RuntimeError("nginx is not installed")
    with tempfile.TemporaryDirectory() as name, socket.socket() as probe:
        folder = Path(name)
        # Workers drop their rights when started as root; they must still reach the file.
        folder.chmod(0o755)
        (folder / "files").mkdir()
        (folder / "files" / "answer").write_bytes(content)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        configuration = folder / "nginx.conf"
        configuration.write_text(_CONFIGURATION.format(folder=folder, port=port), encoding="utf-8")
        process = subprocess.Popen(
            [program, "-c", str(configuration), "-p", name],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for(process, port)
            yield "127.0.0.1", port
        finally:
            process.terminate()
            process.wait(10)


def _wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise RuntimeError(f"nginx ended with exit code {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError("nginx did not start in time")
