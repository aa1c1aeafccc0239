"""The public names, pinned: a change here is a change for users."""

from __future__ import annotations

import ast
import importlib.metadata
import re
from pathlib import Path

import pytest

import elfatt_deploy
from elfatt_deploy import errors, optional, recipes

ROOT = Path(elfatt_deploy.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

PUBLIC = [
    "__version__", "Attention", "Bundle", "ElfattDeployError", "ModelSpec", "ParityReport",
    "check_bundle", "export_bundle", "read_bundle", "register_attention", "register_model",
]  # fmt: skip

#: import name -> distribution, where they differ
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cuda": "cuda-python",
    "skimage": "scikit-image",
    "jtop": "jetson-stats",
    "tensorrt_rtx": "tensorrt-rtx",
}


def test_the_public_names_are_pinned():
    assert elfatt_deploy.__all__ == PUBLIC
    assert dir(elfatt_deploy) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_resolves_to_what_it_is_called(name):
    value = getattr(elfatt_deploy, name)
    assert value is getattr(elfatt_deploy, name)
    assert name == "__version__" or value.__name__ == name


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'elfatt_deploy' has no attribute 'export_bundel'"):
        _ = elfatt_deploy.export_bundel


def test_the_version_is_the_distributions():
    assert importlib.metadata.version("elfatt-deploy") == elfatt_deploy.__version__


def test_types_and_data_are_shipped():
    assert (ROOT / "py.typed").is_file()
    assert any((folder / "profiles" / "targets.toml").is_file() for folder in (ROOT, ROOT.parent))


def _public_definitions(tree, prefix=""):
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith("_"):
            continue
        yield f"{prefix}{node.name}", node
        if isinstance(node, ast.ClassDef):
            yield from _public_definitions(node, f"{prefix}{node.name}.")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_public_name_is_described_by_a_sentence(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bare = [
        name
        for name, node in (("the module", tree), *_public_definitions(tree))
        if not (ast.get_docstring(node) or "").partition("\n\n")[0].rstrip().endswith(".")
    ]
    assert bare == []


def _raised(node):
    """Yield the names of our errors that a function raises in so many words."""
    for child in ast.walk(node):
        if isinstance(child, ast.Raise) and isinstance(child.exc, ast.Call):
            name = ast.unparse(child.exc.func)
            if name.endswith(("Error", "Dependency")) and hasattr(errors, name):
                yield name


@pytest.mark.parametrize(
    "path",
    [p for p in MODULES if "cli" not in p.parts],  # there, docstrings are the help that users read
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_every_error_that_a_public_function_raises_is_in_its_docstring(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    untold = [
        f"{name}: {error}"
        for name, node in _public_definitions(tree)
        if isinstance(node, ast.FunctionDef)
        for error in _raised(node)
        if error not in (ast.get_docstring(node) or "")
    ]
    assert untold == []


@pytest.fixture(scope="module")
def extras():
    return recipes.read_toml(ROOT.parent / "pyproject.toml")["project"]["optional-dependencies"]


@pytest.mark.parametrize(("package", "extra"), sorted(optional.EXTRA_OF.items()))
def test_the_extra_that_a_message_advises_brings_the_package(package, extra, extras):
    brought = {re.match(r"[\w.-]+", requirement)[0] for requirement in extras[extra]}
    assert DISTRIBUTIONS.get(package, package) in brought


@pytest.mark.parametrize("extra", ["ort", "ort-gpu"])
def test_what_check_needs_comes_with_either_build_of_onnx_runtime(extra, extras):
    brought = {re.match(r"[\w.-]+", requirement)[0] for requirement in extras[extra]}
    assert brought == {"onnx", {"ort": "onnxruntime", "ort-gpu": "onnxruntime-gpu"}[extra]}
