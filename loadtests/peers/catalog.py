"""The products that are compared with ours: their start commands and their requests.

Each serves `servers/identity_model.py` and is set up as its own documentation advises, with batches
of at most 8 where it batches.
"""

import os
import shutil
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SERVERS = Path(__file__).parent / "servers"
RAW = {"Content-Type": "application/octet-stream"}

_BOUNDARY = "tile-7d1c0b"


@dataclass(frozen=True)
class Place:
    """Where a peer runs.

    Attributes:
        environment: Virtual environment of the peer.
        port: Port to listen on.
        scratch: Empty folder for files that it needs.
    """

    environment: Path
    port: int
    scratch: Path

    @property
    def python(self) -> str:
        """The environment's interpreter."""
        return str(self.environment / "bin" / "python")

    @property
    def packages(self) -> Path:
        """The environment's site-packages."""
        variables = {"base": str(self.environment), "platbase": str(self.environment)}
        return Path(sysconfig.get_path("purelib", vars=variables))


@dataclass(frozen=True)
class Peer:
    """One product.

    Attributes:
        name: Short name; also that of its requirements file and environment.
        title: Name in the table.
        package: Package whose version is shown.
        path: Path to which a tile is posted.
        command: Maker of its command line.
        headers: Headers of a request.
        is_form: Whether a tile travels as a form upload.
        variables: Maker of environment variables, which override those of this process.
    """

    name: str
    title: str
    package: str
    path: str
    command: Callable[[Place], list[str]]
    headers: dict[str, str] = field(default_factory=lambda: dict(RAW))
    is_form: bool = False
    variables: Callable[[Place], dict[str, str]] = lambda _: {}

    @property
    def requirements(self) -> Path:
        """Its pinned packages."""
        return Path(__file__).parent / f"requirements-{self.name}.txt"

    def version(self) -> str:
        """The pinned version of its package."""
        pins = dict(
            line.strip().split("==")
            for line in self.requirements.read_text(encoding="utf-8").splitlines()
            if "==" in line
        )
        return pins[self.package]

    def request(self, tile: bytes) -> tuple[dict[str, str], bytes]:
        """Headers and body that send one raw tile."""
        if not self.is_form:
            return self.headers, tile
        head = (
            f"--{_BOUNDARY}\r\n"
            'Content-Disposition: form-data; name="file"; filename="tile"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        body = head.encode() + tile + f"\r\n--{_BOUNDARY}--\r\n".encode()
        return {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}, body


def _script(name: str, *arguments: str) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        filled = [argument.format(port=place.port) for argument in arguments]
        return [place.python, str(SERVERS / name), *filled]

    return command


def _bentoml_command(place: Place) -> list[str]:
    program = str(place.environment / "bin" / "bentoml")
    where = ["--working-dir", str(SERVERS), "--host", "127.0.0.1", "--port", str(place.port)]
    return [program, "serve", "bentoml_server:Front", *where]


def _triton_command(place: Place) -> list[str]:
    """Arrange the files of the Python backend as the server expects them; return the command."""
    server = place.packages / "pytriton" / "tritonserver"
    backends = place.scratch / "backends"
    shutil.copytree(server / "backends", backends)
    stub = backends / "python" / "triton_python_backend_stub"
    version = sysconfig.get_python_version()
    shutil.copy(server / "python_backend_stubs" / version / stub.name, stub)
    program = server / "bin" / "tritonserver"
    for file in (stub, program):
        file.chmod(0o755)
    return [
        str(program),
        f"--model-repository={SERVERS / 'triton_models'}",
        f"--backend-directory={backends}",
        "--allow-grpc=false",
        "--allow-metrics=false",
        "--http-address=127.0.0.1",
        f"--http-port={place.port}",
    ]


def _triton_variables(place: Place) -> dict[str, str]:
    libraries = [place.packages / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR")]
    return {
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
        "PATH": os.pathsep.join([str(place.environment / "bin"), os.environ["PATH"]]),
    }


PEERS = [
    Peer(
        name="fastapi",
        title="plain FastAPI loop",
        package="fastapi",
        path="/superresolve",
        command=_script("fastapi_server.py", "{port}"),
    ),
    Peer(
        name="triton",
        title="NVIDIA Triton, Python backend (nvidia-pytriton)",
        package="nvidia-pytriton",
        path="/v2/models/identity/infer",
        command=_triton_command,
        # The binary tensor form without a JSON head: the body is the one input.
        headers={**RAW, "Inference-Header-Content-Length": "0"},
        variables=_triton_variables,
    ),
    Peer(
        name="mosec",
        title="Mosec",
        package="mosec",
        path="/inference",
        command=_script("mosec_server.py", "--address", "127.0.0.1", "--port", "{port}"),
    ),
    Peer(
        name="litserve",
        title="LitServe",
        package="litserve",
        path="/predict",
        command=_script("litserve_server.py", "{port}"),
        is_form=True,
    ),
    Peer(
        name="bentoml",
        title="BentoML",
        package="bentoml",
        path="/superresolve",
        command=_bentoml_command,
        variables=lambda _: {"BENTOML_DO_NOT_TRACK": "True"},
    ),
    Peer(
        name="ray",
        title="Ray Serve",
        package="ray",
        path="/",
        command=_script("ray_server.py", "{port}"),
        variables=lambda _: {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"},
    ),
]
