"""Imports go one way, and heavy packages are imported where the layout says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import elfatt_deploy

ROOT = Path(elfatt_deploy.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

STAGES = (
    "models", "export", "graph", "engine", "runners", "parity", "precision", "evaluation", "device",
    "bench", "results", "predict", "report",
)  # fmt: skip
SHARED = (
    "", "artifacts", "bundles", "errors", "golden", "optional", "preprocessing", "recipes",
    "transport", "units",
)  # fmt: skip
OPTIONAL = {
    "onnx", "onnxruntime", "onnxslim", "PIL", "skimage", "safetensors",
    "tensorrt", "tensorrt_rtx", "pycuda", "jtop", "jinja2", "matplotlib",
}  # fmt: skip
TORCH = (
    "models/attention/", "models/backbones/", "models/checkpoints.py", "models/counting.py",
    "models/keys.py", "models/own.py", "models/resizing.py", "models/seeded.py",
    "models/weights.py", "export/", "predict/counting.py",
)  # fmt: skip


def _name(path):
    return path.relative_to(ROOT).as_posix()


def _is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _imports(tree, *, typing=True):
    """Yield the dotted names that a tree imports, at any depth; `typing`: for types only too."""
    for node in ast.iter_child_nodes(tree):
        if _is_type_checking(node) and not typing:
            for other in node.orelse:
                yield from _imports(other, typing=typing)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            # `from package import module` may name a module: both readings are judged
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from _imports(node, typing=typing)


def _parts(path, *, typing=True):
    """Return the parts of our package that a module imports: a stage, a module, or "" (itself)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for name in _imports(tree, typing=typing):
        package, _, rest = name.partition(".")
        if package == "elfatt_deploy":
            part = rest.partition(".")[0]
            found.add(part if (ROOT / part).is_dir() or (ROOT / f"{part}.py").is_file() else "")
    return found


def _allowed(path):
    """Return the parts that a module may import."""
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if part == "__main__":
        return {"cli"}
    if part == "cli":
        return {*SHARED, *STAGES, "pipeline", "cli"}
    if part == "pipeline":
        return {*SHARED, *STAGES, "pipeline"}
    if part in STAGES:
        return {*SHARED, *STAGES[: STAGES.index(part) + 1]}
    assert part in {*SHARED, "__init__"}, f"{part} has no place in the order of the stages"
    return set(SHARED)


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_module_imports_shared_files_and_earlier_stages_only(path):
    assert _parts(path) <= _allowed(path)


def test_the_walk_sees_imports_inside_functions_and_for_types():
    code = "if TYPE_CHECKING:\n    import a.b\ndef f():\n    from c import d\n    import e\n"
    tree = ast.parse(code)
    assert list(_imports(tree)) == ["a.b", "c.d", "e"]
    assert list(_imports(tree, typing=False)) == ["c.d", "e"]
    spine = _parts(ROOT / "pipeline" / "exporting.py")
    assert spine >= {"models", "export", "graph", "runners", "parity"}


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_torch_is_imported_where_models_are_built_and_exported_only(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    used = any(name.partition(".")[0] == "torch" for name in _imports(tree, typing=False))
    assert not used or _name(path).startswith(TORCH)


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_other_optional_packages_are_loaded_by_optional_alone(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not OPTIONAL & {name.partition(".")[0] for name in _imports(tree, typing=False)}


def test_printing_is_left_to_the_output_module():
    printing = {
        _name(path)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    }
    assert printing <= {"cli/output.py", "cli/app.py"}
