"""`predict` as a user sees it: no board, no torch."""

from __future__ import annotations

import json

import pytest

from elfatt_deploy.results import store

ORIN = ("predict", "--board", "agx-orin-64gb", "--power", "60W", "--batch", "128")


def test_the_shortest_command_predicts_every_mode_of_every_board(cli):
    result = cli("predict")
    assert result.code == 0
    assert "PREDICTED, not measured" in result.out
    for board in ("nano", "agx-orin-64gb", "orin-nano-8gb", "xavier-nx"):
        assert f" {board} " in result.out
    assert "no published time of a compiled engine" in " ".join(result.out.split())


def test_a_prediction_of_the_papers_cell_is_near_the_published_value(cli):
    result = cli(*ORIN, "--precision", "both", "--regime", "eager", "--json", "--quiet")
    document = json.loads(result.out)
    assert (result.code, result.err) == (0, "")
    assert (document["schema"], document["source"]) == ("elfatt-deploy/predict", "predicted")
    found = {one["precision"]: one for one in document["predictions"]}
    # Table VIII: 174 and 355 images/s; this model was not fitted
    assert found["fp32"]["images_per_s"] == pytest.approx(174, rel=0.1)
    assert found["fp16"]["images_per_s"] == pytest.approx(355, rel=0.2)
    for one in found.values():
        interval = one["statistics"]["images_per_s_interval"]
        assert interval["low"] < one["images_per_s"] < interval["high"]
        assert one["machine"]["sms"] == 16
        assert one["p50_ms"] == pytest.approx(sum(one["prediction"]["levels_ms"].values()))
        for level in one["levels"]:
            times = level["by_limit_ms"]
            assert times[level["limit"]] == max(times.values())


def test_records_are_appended_and_listed_as_predicted(cli, tmp_path):
    path = tmp_path / "predicted.jsonl"
    for _ in range(2):
        assert cli(*ORIN, "--model", "cswin_t_global,cswin_t_local", "--results", path).code == 0
    records = store.read(path).records
    assert len(records) == 8
    assert {record.source for record in records} == {"predicted"}
    assert {record.cell.variant for record in records} == {"eager", "fused"}
    assert len({record.key for record in records}) == 4
    assert records[0].command[0] == "elfatt-deploy"
    listed = cli("results", "ls", path)
    assert "predicted: from a model of the board, no measurement" in listed.out


def test_all_names_every_model(cli):
    result = cli(*ORIN, "--model", "all", "--regime", "fused", "--json")
    models = {one["model"] for one in json.loads(result.out)["predictions"]}
    assert {"vmamba_t", "convnext_t", "swin_b_agent", "efficientvit_b2_288"} <= models


def test_what_a_board_file_does_not_know_is_said(cli):
    result = cli("predict", "--board", "agx-thor", "--board", "tx2")
    assert result.code == 0
    assert "not predicted: agx-thor" in result.err
    assert "nobody has checked: tx2" in result.err
    assert cli("predict", "--board", "tx2", "--quiet").err == ""


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--model", "cswin_t_elfat"), 2, "did you mean cswin_t_elfatt"),
        (("--board", "orin"), 2, "unknown board 'orin'"),
        (("--power", "15W"), 2, "--power 15W of which board?"),
        (("--board", "nano", "--power", "15W"), 4, "15W"),
        (("--board", "agx-xavier", "--power", "15W"), 4, "MODE_15W_DESKTOP"),
        (("--batch", "0"), 2, "--batch 0"),
        (("--precision", "int8"), 2, "use fp32, fp16 or both"),
        (("--regime", "graph"), 2, "use eager, fused or both"),
    ],
)
def test_what_cannot_be_predicted_is_refused_with_the_next_step(arguments, code, told, cli):
    result = cli("predict", *arguments)
    assert (result.code, result.out) == (code, "")
    assert told in result.err


def test_nothing_is_stored_where_the_file_is_foreign(cli, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not ours\n")
    result = cli(*ORIN, "--results", path)
    assert result.code == 3
    assert path.read_text() == "not ours\n"
