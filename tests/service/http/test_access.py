"""Keys, quotas, TLS: admitted clients, and the errors of the others."""

import math
import ssl
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from semsr.server_process import ServerStartError, running_server
from semsr_client import Client, ServiceError
from service.ground.errors import OverQuota, Unauthorized
from service.http.access import (
    MAX_CLIENTS,
    Access,
    Key,
    KeyFileError,
    check_client_name,
    hash_key,
    new_key,
    read_keys,
)

# Signed by itself, for this machine, until 2126.
TLS = Path(__file__).parents[2] / "data" / "tls"
TILE = np.zeros((24, 24), np.uint8)
RAW = {"content-type": "application/octet-stream", "x-tile-shape": "24,24"}


class Clock:
    """Seconds that stand still."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        """Tell them."""
        return self.now_s


def access(**changes: object) -> tuple[Access, Clock]:
    """Two requests at once and one every half second."""
    clock = Clock()
    options: dict[str, object] = {"keys": None, "rate_per_s": 2.0, "burst": 2, **changes}
    return Access(**options, clock=clock), clock  # type: ignore[arg-type]


def check(guard: Access, key: str | None, address: str) -> str:
    """Admit a request as the app does; returns its client."""
    client = guard.client_of(key, address)
    guard.spend(client)
    return client


class TestKeys:
    """The file, and what it lets in."""

    def test_a_key_that_was_made_is_known(self, tmp_path: Path):
        """The file holds its hash only; comments and empty lines are skipped."""
        key = new_key()
        file = tmp_path / "keys"
        file.write_text(f"# clients\n\nline-3 {hash_key(key)}\n")
        assert len(key) >= 43
        assert key not in file.read_text()
        guard, _ = access(keys=read_keys(file), rate_per_s=None)
        assert check(guard, key, "10.0.0.1") == "line-3"
        for wrong in (None, "", key[:-1], key + "x", hash_key(key)):
            with pytest.raises(Unauthorized):
                check(guard, wrong, "10.0.0.1")

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("", "holds no API key"),
            ("# empty\n", "holds no API key"),
            ("line-3 secret\n", r"line 1: expected NAME SHA256"),
            (f"a {'0' * 64}\na {'1' * 64}\n", "line 2: the name or key of 'a' occurs twice"),
            (f"a {'0' * 64}\nb {'0' * 64}\n", "line 2: the name or key of 'b' occurs twice"),
        ],
    )
    def test_a_file_that_is_wrong_is_refused(self, tmp_path: Path, content: str, words: str):
        """By line, and without showing what may be a key."""
        file = tmp_path / "keys"
        file.write_text(content)
        with pytest.raises(KeyFileError, match=words) as caught:
            read_keys(file)
        assert "secret" not in str(caught.value)

    def test_a_file_that_is_missing_is_refused(self, tmp_path: Path):
        """No client is admitted by mistake."""
        with pytest.raises(KeyFileError, match="cannot read the API keys"):
            read_keys(tmp_path / "nowhere")

    def test_the_command_makes_a_key_and_its_line(self):
        """The line is what the file wants."""
        done = subprocess.run(
            [sys.executable, "-m", "semsr", "api-key", "line-3"],
            capture_output=True,
            text=True,
            check=True,
        )
        key, line = done.stdout.splitlines()
        assert line == f"line-3 {hash_key(key)}"

    @pytest.mark.parametrize("name", ["", " ", "a b", "n" * 65, "näme", "a\n", "#x", "a:b"])
    def test_a_name_that_a_key_file_cannot_hold_is_refused(self, name: str):
        """The command makes no line that the reader would refuse or skip."""
        with pytest.raises(KeyFileError, match="expected 1 to 64 letters"):
            check_client_name(name)

    @pytest.mark.parametrize("name", ["a", "line-3", "A.b_c", "n" * 64])
    def test_a_name_that_is_accepted_can_be_read(self, name: str, tmp_path: Path):
        """The line of every accepted name is one that the reader takes."""
        check_client_name(name)
        file = tmp_path / "keys"
        file.write_text(f"{name} {hash_key('k')}\n")
        assert [name] == list(read_keys(file))

    def test_the_command_refuses_an_empty_name(self):
        """No key is made, and the exit code is that of wrong use."""
        done = subprocess.run(
            [sys.executable, "-m", "semsr", "api-key", ""],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (2, "") == (done.returncode, done.stdout)
        assert "the client name is ''" in done.stderr


class TestQuota:
    """A bucket for each client."""

    def test_a_burst_then_the_rate(self):
        """Two at once, the third half a second later."""
        guard, clock = access()
        check(guard, None, "a")
        check(guard, None, "a")
        with pytest.raises(OverQuota, match="more than 2 requests a second, 2 at once") as caught:
            check(guard, None, "a")
        assert caught.value.retry_after_s == pytest.approx(0.5)
        clock.now_s += 0.5
        assert check(guard, None, "a") == "a"

    def test_clients_do_not_share(self):
        """Another address has its own bucket; with keys the name counts, not the address."""
        guard, _ = access(burst=1)
        check(guard, None, "a")
        check(guard, None, "b")
        guard, _ = access(burst=1, keys={"x": Key(hash_key("k"))})
        check(guard, "k", "a")
        with pytest.raises(OverQuota):
            check(guard, "k", "b")

    def test_memory_is_bounded(self):
        """For any number of addresses; the least recently active one starts again."""
        guard, _ = access(burst=1)
        for number in range(MAX_CLIENTS + 1):
            check(guard, None, str(number))
        assert len(guard._buckets) == MAX_CLIENTS
        check(guard, None, "0")


class TestRoutes:
    """Through the app."""

    def test_without_a_key_only_probes_are_answered(self, serve, tmp_path: Path):
        """401 names the header; health and metrics stay open."""
        (tmp_path / "keys").write_text(f"line-3 {hash_key('k1')}\n")
        app = serve(api_keys=tmp_path / "keys")
        response = app.post(TILE.tobytes())
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == 'Bearer realm="semsr"'
        assert "Authorization: Bearer KEY" in response.json()["detail"]
        assert app.metric("semsr_rejected_total", reason="unauthorized") == 1
        for path in ("/livez", "/readyz", "/metrics", "/v2/health/ready"):
            assert app.client.get(path).status_code == 200
        for path in ("/model", "/docs", "/openapi.json", "/v2", "/nowhere"):
            assert app.client.get(path).status_code == 401
        for scheme in ("Bearer", "bearer"):
            headers = {**RAW, "authorization": f"{scheme} k1"}
            assert app.post(TILE.tobytes(), headers).status_code == 200
        assert app.post(TILE.tobytes(), {**RAW, "authorization": "Basic k1"}).status_code == 401

    def test_over_quota_is_429_with_a_time(self, serve):
        """And the engine never sees it."""
        app = serve(rate_limit_per_s=0.01, rate_limit_burst=1)
        began_s = time.monotonic()
        assert app.post(TILE.tobytes()).status_code == 200
        response = app.post(TILE.tobytes())
        assert response.status_code == 429
        wait_s = response.json()["retry_after_ms"] / 1e3
        assert 100 - (time.monotonic() - began_s) - 0.001 <= wait_s <= 100
        assert response.headers["retry-after"] == str(math.ceil(wait_s))
        assert app.metric("semsr_rejected_total", reason="over_quota") == 1
        assert len(app.engine.batches) == 1


def test_tls_and_keys_end_to_end(tmp_path: Path) -> None:
    """A server process over HTTPS, asked by the client with and without its key."""
    cert, key = TLS / "cert.pem", TLS / "key.pem"
    (tmp_path / "keys").write_text(f"line-3 {hash_key('k1')}\n")
    settings = {
        "SEMSR_ENGINE": "identity",
        "SEMSR_TLS_CERT": str(cert),
        "SEMSR_TLS_KEY": str(key),
        "SEMSR_API_KEYS": str(tmp_path / "keys"),
    }
    context = ssl.create_default_context(cafile=str(cert))
    with running_server(settings, verify=context) as server:
        assert server.url.startswith("https://")
        with Client(server.url, api_key="k1", verify=context) as client:
            assert client.superresolve(TILE).pixels.shape == (96, 96)
        with (
            Client(server.url, verify=context) as client,
            pytest.raises(ServiceError, match="unauthorized"),
        ):
            client.superresolve(TILE)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"SEMSR_TLS_CERT": "cert.pem"}, "set together or not at all"),
        ({"SEMSR_TLS_CERT": "no.pem", "SEMSR_TLS_KEY": "no.pem"}, "SEMSR_TLS_CERT no.pem and"),
        ({"SEMSR_API_KEYS": "nowhere"}, "cannot read the API keys in nowhere"),
    ],
)
def test_wrong_files_are_found_before_anything_is_loaded(settings: dict[str, str], words: str):
    """The process ends with the reason; it never serves without what was asked for."""
    with (
        pytest.raises(ServerStartError, match=words),
        running_server({"SEMSR_ENGINE": "identity", **settings}),
    ):
        pass
