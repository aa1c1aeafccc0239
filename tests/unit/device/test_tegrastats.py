import pytest

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.device import tegrastats
from elfatt_deploy.errors import ProbeError


def _shown(line):
    """Return a line as the captures write what they expect."""
    gpu, emc = line.engine("GR3D_FREQ"), line.engine("EMC_FREQ")
    swap = line.swap_used_bytes
    return {
        "stamp": line.stamp,
        "ram_used_mib": line.ram_used_bytes // 2**20,
        "ram_total_mib": line.ram_total_bytes // 2**20,
        "swap_used_mib": None if swap is None else swap // 2**20,
        "cores_on": sum(core.clock_hz is not None for core in line.cores),
        "cores": len(line.cores),
        "gpu_percent": gpu.load_percent,
        "gpu_mhz": [clock / 1e6 for clock in gpu.clocks_hz],
        # A line may tell how busy the memory controller is and not its clock.
        "emc_mhz": None if emc is None else (*(c / 1e6 for c in emc.clocks_hz), "absent")[0],
        "temperatures": len(line.temperatures),
        "off": [t.name for t in line.temperatures if isinstance(t.value_c, Unavailable)],
        "rails_mw": {rail.name: [rail.now_mw, rail.mean_mw] for rail in line.rails},
    }


def test_every_captured_line_is_understood_whole(tegrastats_capture):
    for text, expected in zip(
        tegrastats_capture["output"], tegrastats_capture["expected"], strict=True
    ):
        line = tegrastats.parse_line(text)

        assert _shown(line) == expected
        assert line.unknown == ()
        assert line.malformed == ()


def test_fields_keep_their_values(captured):
    text = captured("tegrastats", "agx-orin_r36.4.4")["output"][0]

    line = tegrastats.parse_line(text)

    assert line.cores[0] == tegrastats.CoreLoad(load_percent=14.0, clock_hz=2188e6)
    assert line.engine("NVENC") == tegrastats.EngineLoad(
        name="NVENC", on=True, load_percent=79.0, clocks_hz=(166e6,)
    )
    assert line.engine("NVDEC") == tegrastats.EngineLoad(name="NVDEC", on=False)
    assert line.temperatures[0] == tegrastats.Temperature(name="cpu", value_c=52.562)
    assert line.engine("GR3D2_FREQ") is None


def test_jetpack_7_adds_the_maximum_of_a_rail():
    line = tegrastats.parse_line("RAM 1/2MB (lfb 3x4MB) VDD_GPU 10mW/20mW/30mW")

    assert line.rails == (
        tegrastats.RailPower(name="VDD_GPU", now_mw=10.0, mean_mw=20.0, max_mw=30.0),
    )


def test_unknown_words_survive_and_malformed_fields_are_named():
    line = tegrastats.parse_line(
        "RAM 1/2MB (lfb 3x4MB) SWAP none CPU [5%@x] QUANTUM:7 APE 25 EMC_FREQ ?% VDD_IN 5/"
    )

    assert line.malformed == ("SWAP", "CPU", "EMC_FREQ")
    assert line.unknown == ("none", "[5%@x]", "QUANTUM:7", "?%", "VDD_IN", "5/")
    assert line.engine("APE").clocks_hz == (25e6,)
    assert line.rails == ()


@pytest.mark.parametrize("text", ["", "bash: tegrastats: command not found", "AM 12/34MB"])
def test_another_text_is_no_line(text):
    with pytest.raises(ProbeError, match="no line of tegrastats"):
        tegrastats.parse_line(text)


def test_a_line_that_breaks_off_anywhere_is_refused_or_parsed(tegrastats_capture):
    for text in tegrastats_capture["output"]:
        whole = tegrastats.parse_line(text)
        for end in range(len(text)):
            try:
                torn = tegrastats.parse_line(text[:end])
            except ProbeError:
                continue
            assert len(torn.cores) <= len(whole.cores)
            assert len(torn.rails) <= len(whole.rails)
            # the last word may be cut: all before it are the whole line's
            assert torn.rails[:-1] == whole.rails[: max(0, len(torn.rails) - 1)]
