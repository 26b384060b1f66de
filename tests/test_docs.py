"""The documentation says what the code does: settings, routes, metrics, commands, links."""

import re
from pathlib import Path

import pytest

from semsr.cli import _parser
from semsr.reference import configuration_page
from service.ground.metrics import Metrics
from service.http.stream.request import STREAM_TYPES
from service.images.media_types import ANSWER_TYPES, CONTAINERS, READABLE_TYPES
from service.settings import Settings

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_configuration_page_is_what_the_settings_are() -> None:
    """`make docs` was run after the last change of a setting."""
    assert (ROOT / "docs" / "configuration.md").read_text() == configuration_page()


def test_every_setting_has_a_description() -> None:
    """A setting without words is of no use to an operator."""
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_every_metric_is_explained_and_nothing_else() -> None:
    """docs/metrics.md lists exactly the instruments that exist."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    documented = set(re.findall(r"^\| `(semsr_\w+)`", page, flags=re.MULTILINE))
    families = {family.name: family.type for family in Metrics().registry.collect()}
    existing = {
        f"{name}_total" if kind == "counter" else name
        for name, kind in families.items()
        if name.startswith("semsr_")
    }
    assert documented == existing


def test_every_media_type_is_on_the_page_of_the_interface() -> None:
    """Those that are read and those that are answered; OpenAPI takes them from the same place."""
    page = (ROOT / "docs" / "http-api.md").read_text()
    for name in (*READABLE_TYPES, *ANSWER_TYPES, *STREAM_TYPES, *CONTAINERS):
        assert f"`{name}`" in page


def test_every_command_is_in_the_readme() -> None:
    """Someone new finds each subcommand."""
    [subcommands] = [action.choices for action in _parser()._actions if action.choices]
    readme = (ROOT / "README.md").read_text()
    assert [name for name in subcommands if f"semsr {name}" not in readme] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link and picture exists."""
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []
