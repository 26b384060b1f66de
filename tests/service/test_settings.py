"""Settings: bounds, defaults, and variables that no part reads."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.hosting.setting_problems import unknown_settings, value_problems
from service.settings import OTHER_VARIABLES, Settings, unknown_variables


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "-1"),
        ("port", "65536"),
        ("engine", "warp"),
        ("precision", "fp13"),
        ("threads", "0"),
        ("max_batch_size", "0"),
        ("max_queue", "0"),
        ("max_body_bytes", "1"),
        ("max_pixels", "0"),
        ("body_timeout_s", "0"),
        ("drain_s", "-1"),
        ("shutdown_timeout_s", "0"),
        ("log_level", "loud"),
        ("log_format", "xml"),
    ],
)
def test_value_out_of_bounds_is_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every bound of the documentation holds."""
    monkeypatch.setenv(f"SEMSR_{name.upper()}", value)
    with pytest.raises(ValidationError) as refusal:
        Settings()
    assert refusal.value.errors()[0]["loc"][0] == name


def test_environment_is_read_and_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables win over defaults, and nothing changes afterwards."""
    monkeypatch.setenv("SEMSR_BUNDLE", "elsewhere")
    monkeypatch.setenv("SEMSR_MAX_QUEUE", "7")
    settings = Settings()
    assert settings.bundle == Path("elsewhere")
    assert settings.max_queue == 7
    with pytest.raises(ValidationError):
        settings.max_queue = 8


def test_cache_folder_follows_the_users_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """XDG_CACHE_HOME is honoured."""
    monkeypatch.delenv("SEMSR_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Settings().cache_dir == tmp_path / "semsr"


def test_mistyped_variables_are_found_and_others_left_alone() -> None:
    """Only unknown variables that begin with SEMSR_ are named."""
    environment = {
        "SEMSR_MAX_QEUE": "5",
        "SEMSR_PORT": "1",
        "SEMSR_SERVICE_HOST": "10.0.0.1",
        "SEMSR_SERVICE_PORT_HTTP": "8000",
        "SEMSR_PORT_8000_TCP_ADDR": "10.0.0.1",
        "PATH": "/usr/bin",
        **dict.fromkeys(OTHER_VARIABLES, "x"),
    }
    assert unknown_variables(environment) == ["SEMSR_MAX_QEUE"]


@pytest.mark.parametrize(
    ("variable", "line"),
    [
        ("SEMSR_ENGNE", "SEMSR_ENGNE: unknown setting; did you mean SEMSR_ENGINE?"),
        ("SEMSR_MAXQUEUE", "SEMSR_MAXQUEUE: unknown setting; did you mean SEMSR_MAX_QUEUE?"),
        ("semsr_prt", "semsr_prt: unknown setting; did you mean SEMSR_PORT?"),
        ("SEMSR_XYZZY", "SEMSR_XYZZY: unknown setting; docs/configuration.md lists all settings"),
    ],
)
def test_an_unknown_setting_is_answered_with_the_nearest_one(variable: str, line: str) -> None:
    """And not with all fifty."""
    assert [line] == unknown_settings({variable: "x", "SEMSR_PORT": "1"})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"engine": "onxx"}, "(found 'onxx'); did you mean onnx?"),
        ({"mode": "Pool"}, "(found 'Pool'); did you mean pool?"),
        ({"max_queue": "many"}, "SEMSR_MAX_QUEUE: Input should be a valid integer"),
        ({"host": "[::1]:8000"}, "SEMSR_HOST: expected an address or a name, without port"),
        ({"trusted_proxies": "10.0.0.1/8"}, "SEMSR_TRUSTED_PROXIES: 10.0.0.1/8 has host bits set"),
        ({"trusted_proxies": "*"}, "SEMSR_TRUSTED_PROXIES: '*' does not appear to be an IPv4"),
        ({"bundle": "a", "bundles": "x=b"}, "SEMSR_BUNDLE and SEMSR_BUNDLES are both set"),
        ({"shadow_bundle": "a", "mode": "pool"}, "expected SEMSR_MODE=single"),
        ({"shadow_share": "0.1"}, "SEMSR_SHADOW_SHARE is set, but SEMSR_SHADOW_BUNDLE is not"),
        (
            {"shadow_bundle": "a", "bundles": "x=b", "shadow_model": "y"},
            "SEMSR_SHADOW_MODEL is 'y'; expected a name of SEMSR_BUNDLES (x)",
        ),
        ({"shadow_bundle": "a", "shadow_share": "1.5"}, "SEMSR_SHADOW_SHARE: "),
    ],
)
def test_a_wrong_value_is_named_with_the_nearest_right_one(
    fields: dict[str, str], expected: str
) -> None:
    """One line: variable, problem, value, and what was probably meant."""
    with pytest.raises(ValidationError) as refusal:
        made(**fields)
    [line] = value_problems(refusal.value)
    assert expected in line


def test_a_password_is_not_repeated() -> None:
    """A wrong database URL may hold one."""
    with pytest.raises(ValidationError) as refusal:
        made(scan_database="mysql://semsr:hunter2@db")
    [line] = value_problems(refusal.value)
    assert line.startswith("SEMSR_SCAN_DATABASE: ")
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("[::1]", "::1"),
        ("::", "::"),
        ("[fd00::0:7]", "fd00::7"),
        ("0.0.0.0", "0.0.0.0"),
        ("fab", "fab"),
    ],
)
def test_a_host_may_have_the_brackets_of_a_url(host: str, expected: str) -> None:
    """They are not part of the address."""
    assert expected == made(host=host).host


def test_trusted_proxies_are_addresses_and_networks() -> None:
    """None by default."""
    proxies = made(trusted_proxies="10.0.0.7, fd00::/8").trusted_proxies
    assert ("10.0.0.7/32", "fd00::/8") == proxies
    assert made().trusted_proxies is None


def made(**fields: Any) -> Settings:
    """Settings from text, as the environment gives it."""
    return Settings(**fields)


def test_roots_of_scans_are_folders_and_prefixes():
    """Several with commas, without their last slash."""
    settings = made(scan_roots="/data/lots/, s3://fab/lots")
    assert ("/data/lots", "s3://fab/lots") == settings.scan_roots


@pytest.mark.parametrize(
    "value", ["", "/", "lots", "/data/../etc", "file:///data", "s3://", "s3://fab::x", "/a,,/b"]
)
def test_a_root_that_is_none_is_refused(value):
    """A mistyped root must not allow more than was meant."""
    with pytest.raises(ValidationError, match="cannot be a root of scans"):
        made(scan_roots=value)


@pytest.mark.parametrize(
    ("name", "value"), [("scan_pause", "7-19"), ("scan_database", "mysql://x")]
)
def test_other_settings_of_scans_are_checked_at_the_start(name, value):
    """Not when the night begins."""
    with pytest.raises(ValidationError, match=name):
        made(**{name: value})


def test_the_database_of_scans_is_not_shown():
    """Its URL may hold a password."""
    settings = made(scan_database="postgresql://semsr:hunter2@db/semsr")
    assert "hunter2" not in repr(settings)


def test_settings_are_read_before_anything_large_is_imported() -> None:
    """A wrong one is answered at once, not after the web framework and the runtime."""
    heavy = {"fastapi", "uvicorn", "onnxruntime", "imagecodecs", "PIL"}
    code = f"import service.__main__, sys; sys.exit(bool({heavy!r} & set(sys.modules)))"
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode
