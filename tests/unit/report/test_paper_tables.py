"""Tables VIII and IX: our numbers beside the printed ones, gaps as gaps, conditions named."""

from __future__ import annotations

import pytest

from elfatt_deploy.report import paper_tables, published


@pytest.fixture
def table(settings, values):
    """Return a function from records and a number to the rows of its only table."""

    def rows(records, number, **options):
        options = {"anywhere": False, **options}
        (found,) = paper_tables.paper_tables(number, settings(records), **options)
        return found, values(found)

    return rows


@pytest.mark.parametrize("number", [8, 9])
def test_every_printed_number_stands_beside_the_record_of_its_network(number, table, sweeps):
    found, rows = table(sweeps, number)
    paper = published.speed_table(number)
    assert found.watermark == "SIMULATED"
    assert [row["paper_images_per_s"].text for row in rows] == [
        *(row.fps_fp32 for row in paper.rows),
        *(row.fps_mixed for row in paper.rows),
    ]
    assert [row["paper_speed_up"].text for row in rows] == [
        *(row.ratio_fp32 for row in paper.rows),
        *(row.ratio_mixed for row in paper.rows),
    ]
    words = {"fp32": "fp32", "mixed": "fp16"}
    for row in rows:
        (record,) = (
            one
            for one in sweeps
            if one.power_mode.name == paper.power
            and one.device.board == paper.board
            and one.cell.model == row["model"].text
            and one.cell.precision == words[row["precision"].text]
        )
        rate = record.statistics.images_per_s
        assert row["images_per_s"].value == rate
        assert row["ratio"].value == rate / row["paper_images_per_s"].value
        spread = record.statistics.images_per_s_interval
        assert row["images_per_s_interval"].value == spread
        assert row["ratio_interval"].value.low == spread.low / row["paper_images_per_s"].value


def test_speed_ups_are_over_the_papers_slowest_network_of_the_column(table, sweeps):
    found, rows = table(sweeps, 8)
    ones = {row["precision"].text: row["model"].text for row in rows if row["speed_up"].value == 1}
    assert ones == {"fp32": "cswin_t_global", "mixed": "cswin_t_flatten"}
    elfatt = next(row for row in rows if row["model"].text == "cswin_t_elfatt")
    assert elfatt["speed_up"].value == pytest.approx(174 / 108, rel=0.03)
    assert "speed-up in mixed: over CSWin-T24181-FLatten, as in the paper" in found.notes


def test_gaps_are_gaps_with_their_reasons(table, damaged):
    found, rows = table(damaged, 8)
    missing = next(
        row
        for row in rows
        if (row["model"].text, row["precision"].text) == ("cswin_t_flatten", "mixed")
    )
    assert (missing["images_per_s"].text, missing["images_per_s"].value) == ("-", None)
    assert missing["paper_images_per_s"].text == "229"
    text = "no record of that model, precision and size"
    assert f"- (4 entries): {text}" in found.notes
    # speed-ups of that column were over the missing network: none is made up
    assert all(row["speed_up"].value is None for row in rows if row["precision"].text == "mixed")


def test_marks_stand_in_their_row(table, damaged):
    _, rows = table(damaged, 8)
    assert {row["model"].text for row in rows if row["marks"].text == "throttled"} == {
        "cswin_t_local"
    }
    _, rows = table(damaged, 9)
    assert {row["model"].text for row in rows if row["marks"].text == "fp16-unproven"} == {
        "cswin_t_agent"
    }


def test_conditions_that_differ_are_named_and_those_that_agree_are_not(table, sweeps):
    found, _ = table(sweeps, 8)
    differing = [note for note in found.notes if note.startswith("differs: ")]
    assert "differs: JetPack: 6.1 in the paper, 6.2 here" in differing
    assert (
        "differs: framework: not stated in the paper, TensorRT (trtexec) 10.3.0 here" in differing
    )
    assert "differs: clocks: not stated in the paper, locked here" in differing
    assert not any(note.startswith(("differs: batch", "differs: board")) for note in differing)


def test_records_of_another_machine_stand_there_only_where_that_is_asked_for(
    table, laptop, settings
):
    assert paper_tables.paper_tables(8, settings(laptop), anywhere=False) == ()
    found, rows = table(laptop, 8, anywhere=True)
    assert "differs: board: agx-orin-64gb in the paper, Synthetic CPU here" in found.notes
    assert "differs: batch: 128 in the paper, 1 here" in found.notes
    models = {row["model"].text for row in rows if row["images_per_s"].value is not None}
    assert len(models) == 6
    assert all(
        row["images_per_s"].value is None for row in rows if row["precision"].text == "mixed"
    )


def test_other_sizes_and_settings_never_stand_in_a_table_of_the_paper(table, laptop, runs):
    others = [runs.changed(one, settings=("lepe=false",)) for one in laptop]
    others += [one for one in laptop if one.cell.height == 448]
    elfatt = next(one for one in laptop if one.cell.model == "cswin_t_elfatt")
    found, rows = table([*others, elfatt], 8, anywhere=True)
    assert [row["model"].text for row in rows if row["images_per_s"].value is not None] == [
        "cswin_t_elfatt"
    ]
    assert found.sources == ("measured",)


def test_measured_simulated_and_predicted_never_share_a_table(sweeps, runs, made, settings):
    real = made.paper_sweeps(runs, source="measured", repetitions=5)
    found = paper_tables.paper_tables(8, settings((*sweeps, *real)), anywhere=False)
    assert [one.sources for one in found] == [("measured",), ("simulated",)]
    assert [one.watermark for one in found] == ["", "SIMULATED"]
    assert len({one.name for one in found}) == 2


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 2, 4], [1, 3, 2, 4], 0.9486833),  # ties share the mean of their ranks
        ([1, 1, 1], [1, 2, 3], 0.0),
    ],
)
def test_the_rank_correlation(a, b, same):
    assert paper_tables.rank_correlation(a, b) == pytest.approx(same)
