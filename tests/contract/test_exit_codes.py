"""What scripts rely on: exit codes, one error on stderr, nothing but results on stdout."""

from __future__ import annotations

import json
import os
import re

import pytest


def _errors(text):
    return re.findall(r"(?im)^error: .*", text)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ("models cswin_t_elfat", 2, "unknown model 'cswin_t_elfat': did you mean cswin_t_elfatt"),
        ("export --model cswin_t_elfat", 2, "did you mean cswin_t_elfatt"),
        ("export --target jp66", 2, "unknown target 'jp66': did you mean jp6"),
        ("export --set block=7-7-7-7", 2, "unknown setting 'block': did you mean blocks?"),
        ("export --set blocks", 2, "--set blocks has no value"),
        ("export --set lepe=maybe", 2, "'maybe' is not true or false"),
        ("export --resolution 224x", 2, "--resolution 224x is not a size"),
        ("export --resolution 1x2x3", 2, "--resolution 1x2x3 is not a size"),
        ("models cswin_t_elfatt --resolution 0", 2, "--resolution 0"),
        ("models cswin_t_elfatt --resolution 16", 2, "input of 16x16 is too small"),
        ("export --batch 0", 2, "--batch 0 is not a batch"),
        ("export --batch many", 2, "--batch many is not a batch"),
        ("export --precision fp8", 2, "unknown precision 'fp8'"),
        ("export --seed x", 2, "--seed"),
        ("export --nonsense", 2, "--nonsense"),
        ("models --set lepe=false", 2, "give its NAME too"),
        ("models cswin_t_elfatt --table 1", 2, "--table"),
        ("models --table 6", 2, "unknown table '6'"),
        ("eval", 2, "BUNDLE"),
        ("eval nowhere", 2, "--data"),
        ("eval nowhere --data .", 3, "nowhere is not a bundle: it is not a folder"),
        ("eval nowhere --data . --runner trt", 2, "unknown runner 'trt'"),
        ("eval nowhere --data . --batch 0", 2, "--batch"),
        ("eval nowhere --data . --resolution 64", 2, "a bundle has one input size"),
        ("exprot", 2, "Did you mean 'export'?"),
        ("check", 2, "bundle"),
        ("check nowhere", 3, "nowhere is not a bundle: it is not a folder"),
        ("check .", 3, "holds no manifest.json"),
        ("export --weights nowhere.pth", 3, "there is no weights file nowhere.pth"),
        ("export --images nowhere", 3, "nowhere is not a folder"),
        ("export --key-map a:b", 2, "--key-map and --swap-halves change a checkpoint"),
        ("export --swap-halves", 2, "--key-map and --swap-halves change a checkpoint"),
        ("export --weights a.pth --pretrained", 2, "--pretrained and --weights both name weights"),
        ("export --model f.onnx --pretrained", 2, "f.onnx holds its weights"),
        ("export --model f.onnx --weights a.pth", 2, "f.onnx holds its weights"),
        ("export --model f.onnx --set lepe=false", 2, "f.onnx holds its weights"),
        ("export --model f.onnx", 3, "cannot read f.onnx: No such file"),
        ("export --model swin_t_local --set stripes=1-1-1-1", 2, "this model 'stripes'"),
        ("models cswin_t_local --set window=7", 2, "unknown setting of this model 'window'"),
        ("models convnext_t --set lepe=false", 2, "unknown setting of this model 'lepe'"),
        ("models swin_t_local --set window=0", 2, "window is 0"),
        ("models swin_t_local --resolution 31", 2, "input of 31x31 is too small"),
        ("export --model no_such:make", 2, "'no_such:make' cannot be imported"),
        ("models math:pi", 2, "'math:pi' is a float, not a function that returns a module"),
        ("check nowhere.onnx", 3, "cannot read nowhere.onnx: No such file"),
        ("check nowhere.onnx --target jp66", 2, "unknown target 'jp66': did you mean jp6"),
        ("check nowhere.onnx --layers", 2, "--layers, --plan and --builder are for a bundle"),
        ("check nowhere.onnx --provider gpu", 2, "unknown provider 'gpu'"),
        ("check nowhere --target jp6", 2, "--target is for an ONNX file"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value[:7] else None,
)
def test_an_error_has_its_exit_code_one_line_and_an_empty_stdout(arguments, code, told, program):
    result = program(*arguments.split())
    assert (result.code, result.out) == (code, "")
    errors = _errors(result.err)
    assert len(errors) == 1
    assert told in errors[0]


def test_version_and_help_are_results(program):
    version, text = program("--version"), program("--help")
    assert (version.code, version.err, text.code, text.err) == (0, "", 0, "")
    assert re.fullmatch(r"elfatt-deploy \d+\.\d+\.\d+\S*\n", version.out)


def test_models_in_json_is_one_document_of_known_shape(program):
    result = program("models", "--json")
    assert (result.code, result.err) == (0, "")
    document = json.loads(result.out)
    assert (document["schema"], document["version"]) == ("elfatt-deploy/models", 1)
    names = [model["name"] for model in document["models"]]
    assert "cswin_t_elfatt" in names
    assert len(names) == len(set(names))
    for model in document["models"]:
        assert {type(model[key]) for key in ("params", "input_size")} == {int}
        assert model["params"] > 10**7
        assert 0 < model["gflops_fa"] <= model["gflops_nfa"]


def test_a_table_written_to_a_pipe_has_no_colours(program):
    result = program("models")
    assert (result.code, result.err) == (0, "")
    assert "\x1b" not in result.out


@pytest.mark.parametrize("arguments", [("models",), ("models", "--json")], ids=" ".join)
def test_a_reader_that_leaves_is_no_failure(arguments, program):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        result = program(*arguments, stdout=writing)
    finally:
        os.close(writing)
    assert (result.code, result.err) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
@pytest.mark.parametrize("arguments", [("models",), ("models", "--json")], ids=" ".join)
def test_a_full_disk_under_stdout_is_no_bug_of_ours(arguments, program):
    with open("/dev/full", "w") as full:
        result = program(*arguments, stdout=full)
    assert result.code not in (0, 70)
    assert "No space left on device" in result.err
    assert "bug" not in result.err
