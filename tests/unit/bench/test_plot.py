"""The figure holds every measured point, and is refused before anything is measured."""

from __future__ import annotations

import itertools

import pytest

from elfatt_deploy import optional
from elfatt_deploy.bench import plot
from elfatt_deploy.errors import ExportError, MissingDependency, UsageError

matplotlib = pytest.importorskip("matplotlib", reason="the extra 'report' is not installed")


def _lines(figure):
    """Return (tokens, times) by mechanism."""
    return {
        container.get_label().split()[0]: (
            container.lines[0].get_xdata().tolist(),
            container.lines[0].get_ydata().tolist(),
        )
        for container in figure.axes[0].containers
    }


def test_every_measured_cell_is_a_point(made_report):
    report = made_report(refused=("global 56x56",))
    lines = _lines(plot.draw(report))
    assert lines["elfatt"][0] == [196, 784, 3136]
    assert lines["global"][0] == [196, 784]
    medians = {r.cell.name: r.summary for r in report.results}
    assert lines["global"][1] == [medians[f"global {s}"].p50_ms for s in ("14x14", "28x28")]


def test_the_figure_says_what_was_measured_where_and_when(made_report):
    figure = plot.draw(made_report(refused=("global 56x56",)))
    axes = figure.axes[0]
    assert axes.get_title(loc="left") == (
        "Attention alone: 64 channels, 2 heads, batch 1, float32\n"
        "measured on Test CPU (8 cores)\n"
        "1 thread, ONNX Runtime 1.2.3, 2030-01-02"
    )
    assert axes.get_ylabel() == "median time of one run (ms)"
    assert axes.get_xlabel() == "tokens N (rows x columns)\nnot measured: global 56x56"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["elfatt  grows as $N^{1.00}$", "global  grows as $N^{2.00}$"]


def test_many_absent_cells_are_counted(made_report):
    sizes = tuple((side, side) for side in range(7, 14))
    refused = [f"global {side}x{side}" for side in range(8, 14)]
    label = plot.draw(made_report(("global",), sizes, refused=refused)).axes[0].get_xlabel()
    assert label.endswith("global 8x8, global 9x9, global 10x10, global 11x11 and 2 more")


@pytest.mark.parametrize("exponent", [0.5, 1, 2])
def test_no_text_overlaps_another_and_all_points_are_inside(made_report, exponent):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    names = ("local", "global", "effatt", "elfatt")
    sizes = tuple((side, side) for side in (7, 14, 28, 30, 32, 34, 56, 112))
    figure = plot.draw(made_report(names, sizes, exponents=dict.fromkeys(names, exponent)))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer, axes = canvas.get_renderer(), figure.axes[0]
    texts = [
        *axes.get_xticklabels(), *axes.get_yticklabels(), *axes.texts, axes.xaxis.label,
        axes.yaxis.label, *figure.legends[0].get_texts(),
    ]  # fmt: skip
    boxes = [t.get_window_extent(renderer) for t in texts if t.get_text() and t.get_visible()]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    for text in axes.texts:
        assert figure.bbox.fully_containsx(text.get_window_extent(renderer).x1)
    (low, high), (early, late) = axes.get_ylim(), axes.get_xlim()
    for tokens, times in _lines(figure).values():
        assert low < min(times) <= max(times) < high
        assert early < min(tokens) <= max(tokens) < late


def test_colours_and_markers_differ_between_mechanisms(made_report):
    names = ("local", "global", "effatt", "elfatt")
    lines = [c.lines[0] for c in plot.draw(made_report(names)).axes[0].containers]
    assert len({line.get_color() for line in lines}) == 4
    assert len({line.get_marker() for line in lines}) == 4


@pytest.mark.parametrize("sizes", [((14, 14),), ((14, 56), (28, 28), (56, 56))])
@pytest.mark.parametrize("rounds", [2, 6])
@pytest.mark.parametrize("suffix", plot.SUFFIXES)
def test_it_is_written_in_each_format(made_report, tmp_path, suffix, sizes, rounds):
    path = tmp_path / f"figure{suffix}"
    plot.check(path)
    plot.write(made_report(sizes=sizes, rounds=rounds), path)
    begins = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix]
    assert path.read_bytes().startswith(begins)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_write_that_fails_leaves_the_older_figure(made_report, tmp_path, monkeypatch):
    import matplotlib.figure

    def full(self, path, **options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    path = tmp_path / "figure.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", full)
    with pytest.raises(ExportError, match="cannot write the figure .*No space left"):
        plot.write(made_report(), path)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["figure", "figure.gif", "png"])
def test_a_name_without_a_known_format_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="does not say which format") as caught:
        plot.check(tmp_path / name)
    assert ".png, .svg, .pdf" in caught.value.hint


def test_a_folder_is_no_figure(tmp_path):
    (tmp_path / "figure.png").mkdir()
    with pytest.raises(ExportError, match="it is a folder"):
        plot.check(tmp_path / "figure.png")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot write the figure"):
        plot.check(tmp_path / "file" / "figure.png")


def test_without_matplotlib_the_message_names_the_extra(tmp_path, monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name="matplotlib")

    monkeypatch.setattr(optional.importlib, "import_module", absent)
    with pytest.raises(MissingDependency, match="'matplotlib' is not installed") as caught:
        plot.check(tmp_path / "figure.png")
    assert '[report]"' in caught.value.hint
