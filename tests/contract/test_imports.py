"""The base installation is enough for import, help and listings; a verb names what it lacks."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer.main

import elfatt_deploy
from elfatt_deploy import optional
from elfatt_deploy.cli.app import app

VERBS = tuple(typer.main.get_command(app).commands)

PACKAGE = Path(elfatt_deploy.__file__).parent
#: what needs torch to be imported; a board without it runs all the rest
TORCH = (
    "export.", "models.attention.", "models.backbones.", "models.checkpoints", "models.counting",
    "models.keys", "models.resizing", "models.weights", "predict.counting",
)  # fmt: skip
TORCH_FREE = tuple(
    name
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.stem not in ("__init__", "__main__")
    and not (name := ".".join(path.relative_to(PACKAGE).with_suffix("").parts)).startswith(TORCH)
)


def test_the_verbs_are_those_of_this_version():
    assert VERBS == (
        "models", "export", "check", "build", "eval", "bench", "sweep", "compare", "restore",
        "predict", "report", "doctor", "results", "device",
    )  # fmt: skip


@pytest.mark.parametrize("module", ["elfatt_deploy", "elfatt_deploy.cli.app"])
def test_an_import_loads_no_optional_package(module, python, heavy):
    code = f"import sys, {module}; print(sorted({set(heavy)!r} & set(sys.modules)))"
    result = python(code)
    assert (result.code, result.out.strip(), result.err) == (0, "[]", "")


def test_the_torch_free_modules_import_without_any_extra(python, heavy):
    code = f"import importlib\nfor m in {TORCH_FREE!r}: importlib.import_module('elfatt_deploy.'+m)"
    result = python(code, without=heavy)
    assert (result.code, result.err) == (0, "")


def test_the_help_of_every_verb_works_without_any_extra(python, heavy):
    code = f"""
from elfatt_deploy.cli.app import app

for verb in {VERBS!r}:
    app([verb, "--help"], standalone_mode=False)
"""
    result = python(code, without=heavy)
    assert (result.code, result.err) == (0, "")
    assert result.out.count("Usage: ") == len(VERBS)


def test_help_loads_no_optional_package_where_it_is_installed(python, heavy):
    code = f"""
import sys
from elfatt_deploy.cli.app import app

app(["--help"], standalone_mode=False)
for verb in {VERBS!r}:
    app([verb, "--help"], standalone_mode=False)
print("loaded:", sorted(set({heavy!r}) & set(sys.modules)), file=sys.stderr)
"""
    result = python(code)
    assert (result.code, result.err.strip()) == (0, "loaded: []")


@pytest.mark.parametrize(
    "arguments",
    [
        ("models",),
        ("models", "--json"),
        ("models", "--table", "1"),
        ("models", "cswin_t_elfatt"),
        ("models", "cswin_t_elfatt", "--set", "blocks=8-8-8-8", "--json"),
    ],
    ids=" ".join,
)
def test_models_works_without_any_extra(arguments, program, heavy):
    result = program(*arguments, without=heavy)
    assert result.code == 0
    assert "cswin_t_elfatt" in result.out
    assert "error" not in result.err
    if "--json" in arguments:
        json.loads(result.out)


def test_counts_that_need_torch_are_a_note_that_says_how_to_get_it(program, heavy):
    arguments = ("models", "cswin_t_elfatt", "--set", "blocks=8-8-8-8")
    result = program(*arguments, without=heavy)
    assert (result.code, result.err.count("\n")) == (0, 1)
    assert "need torch" in result.err
    assert "pip install" in result.err
    assert '[export]"' in result.err


@pytest.mark.parametrize(
    "package", ["torch", "onnx", "onnxslim", "onnxruntime"], ids=lambda p: f"no {p}"
)
def test_export_without_a_package_exits_3_and_names_the_extra(package, program):
    result = program("export", without=(package,))
    assert (result.code, result.out) == (3, "")
    assert f"error: the package '{package}' is not installed" in result.err
    assert re.search(rf'next: pip install .*\[{optional.EXTRA_OF[package]}\]"', result.err)


@pytest.fixture
def onnx_file(tmp_path):
    """Return a classifier of 32x32 images that was made without torch."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(0).standard_normal((3 * 32 * 32, 5)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["flat"], name="flatten"),
            helper.make_node("MatMul", ["flat", "w"], ["y"], name="head"),
        ],
        "foreign",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 32, 32))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 5))],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "foreign.onnx")
    return "foreign.onnx"


def test_an_onnx_file_needs_neither_torch_nor_a_simplifier(onnx_file, program):
    without = ("torch", "onnxslim", "safetensors")
    exported = program("export", "--model", onnx_file, without=without)
    assert (exported.code, exported.err) == (0, "")
    for path in (onnx_file, "bundles/foreign-32-b1-fp32-jp6"):
        checked = program("check", path, without=without)
        assert (checked.code, checked.err) == (0, "")
        assert checked.out.count(" pass") == 2


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"], ids=lambda p: f"no {p}")
def test_an_onnx_file_without_a_package_exits_3_and_names_the_extra(package, onnx_file, program):
    for arguments in (("export", "--model", onnx_file), ("check", onnx_file)):
        result = program(*arguments, without=(package,))
        assert (result.code, result.out) == (3, "")
        assert f"error: the package '{package}' is not installed" in result.err


def test_an_own_model_without_torch_exits_3_and_names_the_extra(program, tmp_path):
    (tmp_path / "nets.py").write_text("def make(): return None\n")
    for verb in (("export", "--model"), ("models",)):
        result = program(*verb, "nets:make", without=("torch",))
        assert (result.code, result.out) == (3, "")
        assert "error: the package 'torch' is not installed" in result.err


def test_models_never_loads_torch_for_stored_counts(python):
    code = """
import sys
from elfatt_deploy.cli.app import app

for arguments in (["models"], ["models", "--table", "3"], ["models", "cswin_b_elfatt"]):
    app(arguments, standalone_mode=False)
print("torch" in sys.modules, file=sys.stderr)
"""
    result = python(code)
    assert (result.code, result.err.strip()) == (0, "False")
