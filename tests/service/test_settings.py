"""Settings: bounds, defaults, and variables that nobody reads."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

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
    """Only what begins with SEMSR_ and is read by nobody is named."""
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
    with pytest.raises(ValidationError, match="is no root of scans"):
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
