"""The layers of the house: core, formats, workbench; every import points down."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = {
    "structures",
    "io",
    "datasets",
    "transforms",
    "models",
    "engine",
    "evaluation",
    "inference",
    "errors",
    "sample",
}
LAYER = dict.fromkeys(CORE, 0) | {"formats": 1, "workbench": 2}


def modules() -> dict[str, Path]:
    """Every module of the package, by its dotted name."""
    return {
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
        for p in sorted((ROOT / "custom").rglob("*.py"))
    }


def imports(path: Path, known: dict[str, Path], top_level: bool = False) -> set[str]:
    """The modules of the package that a file imports.

    Args:
        path: A Python file.
        known: All modules of the package.
        top_level: Leave out imports inside functions, which run later, and those
            for type checkers, which never run.
    """
    tree = ast.parse(path.read_text())
    if top_level:
        skipped = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef)
            or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        ]
        inner = {id(child) for n in skipped for child in ast.walk(n)}
    else:
        inner = set()
    names = set()
    for node in ast.walk(tree):
        if id(node) in inner:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                names.add(full if full in known else node.module)
    return {name for name in names if name in known}


def test_a_layer_imports_only_the_layers_below_it():
    known = modules()
    upward = [
        f"{name} imports {target}"
        for name, path in known.items()
        for target in imports(path, known)
        if name != "custom" and target != "custom"
        if LAYER[target.split(".")[1]] > LAYER[name.split(".")[1]]
    ]
    assert not upward


def test_no_circle_of_imports():
    known = modules()
    graph = {n: imports(p, known, top_level=True) - {n} for n, p in known.items()}
    state: dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if state.get(name) == 1:
            circle = (*trail[trail.index(name) :], name)
            pytest.fail(" -> ".join(circle))
        if name not in state:
            state[name] = 1
            for target in sorted(graph[name]):
                visit(target, (*trail, name))
            state[name] = 2

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize(
    "package",
    ["custom.io.image", "custom.formats.geojson", "custom.structures.dihedral"],
)
def test_io_and_formats_load_neither_torch_nor_mmdet(package):
    code = (
        f"import sys, {package}; "
        "print(sorted({'torch', 'mmdet', 'mmcv', 'mmengine'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_training_and_testing_import_the_core_only():
    known = modules()
    for tool in ("tools/train.py", "tools/test.py"):
        foreign = {
            target
            for target in imports(ROOT / tool, known)
            if target != "custom" and LAYER[target.split(".")[1]] > 0
        }
        assert not foreign, f"{tool}: {sorted(foreign)}"
