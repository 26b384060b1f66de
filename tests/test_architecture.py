"""The direction of imports: the contracts in pyproject.toml, and the service without torch."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "bundle_format", "engines", "models", "export", "training", "service", "semsr", "loadtests",
)  # fmt: skip
# What the command line and the client must not import before they need it.
OTHERS = tuple(name for name in PACKAGES if name != "semsr")

# Imports every module of the packages named first while the names after `--` cannot be imported.
IMPORT_BLOCKED = """
import importlib, pkgutil, sys

split = sys.argv.index("--")
packages, blocked = sys.argv[1:split], set(sys.argv[split + 1:])

class Blocker:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError(f"{name} is blocked by this test")

sys.meta_path.insert(0, Blocker)
for name in packages:
    module = importlib.import_module(name)
    print(name)
    if hasattr(module, "__path__"):
        for found in pkgutil.walk_packages(module.__path__, name + "."):
            importlib.import_module(found.name)
            print(found.name)
"""


def import_blocked(packages: list[str], blocked: list[str]) -> list[str]:
    """Import packages with their modules in a new process; return the names imported."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_BLOCKED, *packages, "--", *blocked],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == result.returncode, result.stderr
    return result.stdout.split()


@pytest.mark.skipif(
    importlib.util.find_spec("importlinter") is None, reason="import-linter is not installed"
)
def test_imports_follow_the_contracts() -> None:
    """Every import contract of pyproject.toml holds."""
    result = subprocess.run(
        [sys.executable, "-c", "import sys, importlinter.cli as c; sys.exit(c.lint_imports())"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == result.returncode, result.stdout + result.stderr


def test_the_service_imports_without_torch() -> None:
    """Every module of what serves imports where torch and onnx are absent."""
    imported = import_blocked(
        ["service", "engines", "bundle_format"],
        ["torch", "onnx", "onnxscript", "onnx_ir", "safetensors", "scipy"],
    )

    assert {"service.http.app", "engines.onnx_engine", "bundle_format.bundle"} <= set(imported)


def test_the_engines_import_without_a_web_framework() -> None:
    """The engines can be used by the exporter and the trainer, which have no server."""
    imported = import_blocked(["engines"], ["fastapi", "starlette", "uvicorn", "prometheus_client"])

    assert "engines.onnx_engine" in imported


def test_what_training_shares_with_the_service_imports_without_the_service() -> None:
    """Image files are read alike by both, so their reader needs no web framework and no engine."""
    shared = [
        "service.images.codec",
        "service.ground.errors",
        "service.images.metadata",
        "service.images.window",
    ]
    imported = import_blocked(
        [*shared, "training.data.images"],
        [
            "fastapi",
            "starlette",
            "uvicorn",
            "prometheus_client",
            "onnxruntime",
            "pydantic",
            "torch",
        ],
    )

    assert {*shared, "service.images.codec.tiff_decode", "training.data.images"} <= set(imported)


def test_the_command_line_imports_a_folder_only_when_asked() -> None:
    """`semsr --help` needs none of the folders: each subcommand imports its own."""
    # loadtests declares `bench` in a file of its own, which imports what measures when it runs.
    blocked = [name for name in OTHERS if name != "loadtests"]

    imported = import_blocked(["semsr.cli"], [*blocked, "torch"])

    assert ["semsr.cli"] == imported


def test_the_package_imports_its_python_interface_when_it_is_used() -> None:
    """`import semsr` alone needs none of the folders, and not even NumPy."""
    blocked = f"import sys; sys.modules |= dict.fromkeys({[*OTHERS, 'numpy']!r}); import semsr"

    subprocess.run([sys.executable, "-c", blocked], cwd=ROOT, check=True)


def test_the_client_needs_nothing_else_of_ours() -> None:
    """A pipeline imports it into its own environment."""
    imported = import_blocked(["semsr_client"], [*PACKAGES, "torch", "pydantic", "fastapi", "tqdm"])

    assert "semsr_client.stream" in imported


@pytest.mark.parametrize("package", [name for name in PACKAGES if name not in {"models", "semsr"}])
def test_a_package_file_holds_a_docstring_only(package: str) -> None:
    """Importing one module of these folders must not import the others through `__init__`."""
    tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))

    assert ["Expr"] == [type(node).__name__ for node in tree.body]
    assert ast.get_docstring(tree)


def test_modules_are_named_for_what_they_hold() -> None:
    """No module is called utils, helpers, common, base or manager."""
    vague = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}

    found = [
        path.relative_to(ROOT)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.stem in vague
    ]

    assert [] == found


def test_tests_hold_no_package_files() -> None:
    """An `__init__.py` under tests/ would hide the packages of the same name (see pyproject)."""
    assert [] == list((ROOT / "tests").rglob("__init__.py"))


def test_whoever_imports_onnx_runtime_tells_it_to_report_to_nobody() -> None:
    """Its wheels report their use over the network unless a variable says no before the import."""
    importers = {
        path: text
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if re.search(r"^\s*(?:import|from) onnxruntime\b", text := path.read_text(), re.MULTILINE)
    }
    setting = 'os.environ["ORT_DISABLE_TELEMETRY"] = "1"'

    assert importers
    assert [] == [
        path
        for path, text in importers.items()
        if not 0 <= text.find(setting) < text.find("import onnxruntime")
    ]


def learning_in(source: str) -> list[str]:
    """List what learns in a module's source: optimisers, and calculations of gradients."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith("torch.optim")]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch"):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [n for n in names if n.startswith(("torch.optim", "torch.autograd.grad"))]
        elif isinstance(node, ast.Attribute) and ast.unparse(node).endswith("torch.optim"):
            found.append("torch.optim")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called = ast.unparse(node.func)
            if node.func.attr == "backward" or called.endswith("autograd.grad"):
                found.append(called)
    return found


@pytest.mark.parametrize("package", ["models", "export", "service", "engines", "bundle_format"])
def test_what_is_exported_and_served_learns_nothing(package: str) -> None:
    """Methods that learn at inference time stay in training: one pass answers a tile."""
    modules = sorted((ROOT / package).rglob("*.py"))

    assert modules
    assert [] == [
        (str(path.relative_to(ROOT)), found)
        for path in modules
        if (found := learning_in(path.read_text(encoding="utf-8")))
    ]


@pytest.mark.parametrize(
    "source",
    [
        "import torch.optim",
        "import torch.optim.lr_scheduler as s",
        "from torch import optim",
        "from torch.optim import Adam",
        "import torch\ntorch.optim.Adam([])",
        "loss.backward()",
        "self.loss(x).backward(retain_graph=True)",
        "torch.autograd.grad(a, b)",
        "from torch.autograd import grad",
    ],
)
def test_learning_is_found_in_source(source: str) -> None:
    """The search sees each way to an optimiser or a gradient."""
    assert 1 == len(learning_in(source))


def test_learning_is_found_where_it_is() -> None:
    """Training and internal learning do learn."""
    for name in ("training/trainer.py", "training/internal_learning/zssr.py"):
        assert learning_in((ROOT / name).read_text(encoding="utf-8")), name
