"""Commands that run a plan: the options of each version, and how a run is judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from elfatt_deploy.bench import contracts
from elfatt_deploy.engine import trtexec_run
from elfatt_deploy.engine.dialects import dialect_of
from elfatt_deploy.engine.trtexec_log import TrtexecLog
from elfatt_deploy.engine.trtexec_run import RunLength, RunPlaces, parity_command, run_command
from elfatt_deploy.errors import CommandTimeout, EngineError, PlanMismatch, UnknownNameError
from elfatt_deploy.transport.base import CommandResult

DATA = Path(__file__).parents[2] / "data" / "trtexec"
PLACES = RunPlaces(
    program="trtexec",
    plan="m.plan",
    times="t.json",
    inputs="i.bin",
    outputs="o.json",
    plugins=("a.so", "b.so"),
)
LENGTH = RunLength(warm_up_ms=500, duration_s=4.2, iterations=10)
_MODES = {
    "--useCudaGraph", "--noCudaGraph", "--useSpinWait", "--noSpinWait", "--noDataTransfers",
    "--includeDataTransfers", "--exposeDMA",
}  # fmt: skip


def _known():
    rows = [line.split("\t") for line in (DATA / "flags.tsv").read_text().splitlines()]
    rows = [row for row in rows if row[0][0] != "#"]
    return {
        version: {row[0] for row in rows[1:] if row[column] == "1"}
        for column, version in enumerate(rows[0])
        if column
    }


KNOWN = _known()


def _command(version, contract, **more):
    return run_command(dialect_of(version), contract, PLACES, LENGTH, **more)


@pytest.mark.parametrize("version", KNOWN)
@pytest.mark.parametrize("contract", contracts.CONTRACTS)
def test_a_command_holds_only_options_that_the_version_has(version, contract):
    for command in (
        _command(version, contract, shape=(2, 3, 8, 8)),
        parity_command(dialect_of(version), PLACES),
    ):
        assert {option.partition("=")[0] for option in command[1:]} <= KNOWN[version]
        assert all(option.startswith("--") for option in command[1:])  # `--key value` is two


def _modes(version, contract):
    return set(_command(version, contract)) & _MODES


@pytest.mark.parametrize("version", [v for v in KNOWN if not v.startswith("11")])
def test_up_to_10_graph_spinning_and_no_copies_are_asked_for(version):
    assert _modes(version, "compute/1") == {"--useCudaGraph", "--useSpinWait", "--noDataTransfers"}
    assert _modes(version, "throughput/1") == {"--useCudaGraph", "--useSpinWait"}
    assert _modes(version, "single-stream/1") == {"--useCudaGraph", "--useSpinWait", "--exposeDMA"}
    assert _modes(version, "paper/1") == {"--exposeDMA"}


@pytest.mark.parametrize("version", [v for v in KNOWN if v.startswith("11")])
def test_from_11_on_their_opposites_are(version):
    assert _modes(version, "compute/1") == set()
    assert _modes(version, "throughput/1") == {"--includeDataTransfers"}
    assert _modes(version, "single-stream/1") == {"--includeDataTransfers", "--exposeDMA"}
    assert _modes(version, "paper/1") == {
        "--includeDataTransfers", "--noCudaGraph", "--noSpinWait", "--exposeDMA",
    }  # fmt: skip


@pytest.mark.parametrize("name", contracts.CONTRACTS)
def test_the_contracts_mean_what_the_bench_says_of_them(name):
    meant, launch = contracts.CONTRACTS[name], trtexec_run._CONTRACTS[name]
    assert (meant.in_flight == 1) == launch.alone
    assert (meant.transfers == "no") == (not launch.transfers)
    assert meant.cuda_graph != "yes" or launch.graph
    assert meant.sync != "spin" or launch.spin


def test_length_shape_files_and_plugins_reach_trtexec():
    command = _command("8.5.2", "compute/1", shape=(2, 3, 64, 96))
    assert command[:2] == ("trtexec", "--loadEngine=m.plan")
    assert {
        "--plugins=a.so", "--plugins=b.so", "--shapes=images:2x3x64x96", "--warmUp=500",
        "--duration=5", "--iterations=10", "--loadInputs=images:i.bin", "--exportTimes=t.json",
        "--exportOutput=o.json",
    } <= set(command)  # fmt: skip
    bare = RunPlaces(program="trtexec", plan="m.plan")
    plain = run_command(dialect_of("8.5.2"), "compute/1", bare, LENGTH)
    files = {option.partition("=")[0] for option in plain if "." in option}
    assert files == {"--loadEngine"}


def test_a_parity_run_is_one_inference_with_copies():
    command = set(parity_command(dialect_of("11.1.0"), PLACES))
    assert {"--iterations=1", "--duration=0", "--warmUp=0", "--includeDataTransfers"} <= command


def test_unknown_contracts_and_names_that_trtexec_would_split_are_refused():
    with pytest.raises(UnknownNameError, match="unknown contract 'compute/2'"):
        _command("8.5.2", "compute/2")
    odd = RunPlaces(program="trtexec", plan="m.plan", inputs="a:b.bin")
    with pytest.raises(EngineError, match=r"cannot name the file a:b\.bin"):
        parity_command(dialect_of("8.5.2"), odd)


class _Says:
    """A transport whose one command writes a text and ends."""

    name = "user@board"

    def __init__(self, text, status=0, error=None):
        self.text, self.status, self.error = text, status, error

    def run(self, command, *, timeout_s=None, input=None, on_line=None):
        for line in self.text.splitlines():
            on_line(line)
        if self.error:
            raise self.error
        return CommandResult(
            command=tuple(command), status=self.status, stdout=self.text, stderr="", seconds=1.0
        )


def _run(*arguments):
    return trtexec_run.run(_Says(*arguments), ("trtexec",), "10.3.0", timeout_s=5)


GOOD = (DATA / "orin_trt10.3.0_fp16_nodatatransfers_summary.log").read_text()


def test_a_good_run_is_its_log():
    assert _run(GOOD).summary.throughput_qps == 318.007


@pytest.mark.parametrize(
    ("text", "status", "kind", "told"),
    [
        (GOOD, 1, EngineError, "ended with status 1"),
        (GOOD, 139, EngineError, "ended by signal 11"),
        (GOOD, 137, EngineError, "ran out of memory: it was killed"),
        (GOOD.replace("&&&& PASSED", "&&&& FAILED"), 0, EngineError, "ended with status 0"),
        (GOOD.rpartition("&&&&")[0], 0, EngineError, "ends without PASSED or FAILED"),
        (GOOD.replace("Throughput", "-"), 0, EngineError, "there is no performance summary"),
        ((DATA / "desktop_trt10.13.3_false_pass.log").read_text() + GOOD, 0, PlanMismatch,
         "on user@board does not load the plan"),
        ((DATA / "orin_trt10.3.0_unknown_options.stderr.log").read_text(), 1, EngineError,
         "does not know --workspace, --buildOnly"),
        ("[I] x\n[E] Error occurred during inference\n&&&& FAILED TensorRT.trtexec x", 1,
         EngineError, "Error occurred during inference"),
    ],
)  # fmt: skip
def test_a_run_is_believed_only_where_all_signs_agree(text, status, kind, told):
    with pytest.raises(kind, match=told) as caught:
        _run(text, status)
    assert caught.value.hint


def test_a_run_that_hangs_is_told_with_its_last_words():
    error = CommandTimeout("late", command=("trtexec",))
    with pytest.raises(CommandTimeout, match="on user@board did not end within 5 s.*PASSED"):
        _run(GOOD, 0, error)


def test_a_graph_that_was_given_up_is_seen():
    warned = "The specified --useCudaGraph flag has been ignored. The inference will be launched"
    assert trtexec_run.graph_was_used(TrtexecLog(version="", verdict="passed"))
    assert not trtexec_run.graph_was_used(
        TrtexecLog(version="", verdict="passed", warnings=(warned,))
    )


@pytest.mark.parametrize("version", KNOWN)
def test_the_time_of_each_layer_is_taken_in_a_run_of_its_own(version):
    places = RunPlaces(program="trtexec", plan="m.plan", layers="l.profile.json")
    command = trtexec_run.layers_command(dialect_of(version), places, (1, 3, 64, 96))
    assert {"--separateProfileRun", "--exportProfile=l.profile.json"} <= set(command)
    assert "--shapes=images:1x3x64x96" in command
    assert "--useCudaGraph" not in command, "it would hide the layers"
    assert {word.partition("=")[0] for word in command[1:]} <= {*KNOWN[version], "--shapes"}
