"""A short sweep in a process of its own, to be killed.

    sweep_child.py DEVICE RESULTS BUNDLE MODE... [--allow-reboot] [--impatient] [--not-quick]

It is the sweep of the command line but for its plan, which is as short as it can be.
"""

import dataclasses
import sys
from pathlib import Path

import typer

from elfatt_deploy import bundles
from elfatt_deploy.bench.protocol import BenchPlan, Limits, SteadyRule
from elfatt_deploy.bench.sweep import SweepRecipe
from elfatt_deploy.bench.timing import StopRule
from elfatt_deploy.cli import board_tables, output
from elfatt_deploy.pipeline import board_measuring, sweeping

SHORT = BenchPlan(
    name="quick",
    repetitions=2,
    limits=Limits(enough=StopRule(rounds=3, seconds=0.0), most_seconds=10.0),
    steady=SteadyRule(),
    sentinel=False,
)


@output.guarded
def main(device, results, bundle, *modes):
    if "--impatient" in sys.argv:
        board_measuring._MARGIN_S = 5.0
    given = bundles.read_bundle(Path(bundle))
    recipe = SweepRecipe(
        name="short",
        title="short",
        models=(given.manifest.model.name,),
        precisions=(given.manifest.precision,),
        modes=modes,
        contracts=("paper/1", "compute/1"),
        target=given.manifest.target,
    )
    request = sweeping.SweepRequest(
        recipe=recipe,
        device=device,
        results=Path(results),
        bundles=(given,),
        plan=dataclasses.replace(SHORT, name="default") if "--not-quick" in sys.argv else SHORT,
        allow_reboot="--allow-reboot" in sys.argv,
        command=tuple(sys.argv),
    )
    report = sweeping.sweep(request, output.say)
    return board_tables.show(report, json=False, quiet=False)


if __name__ == "__main__":
    try:
        main(*[word for word in sys.argv[1:] if not word.startswith("--")])
    except typer.Exit as end:
        sys.exit(end.exit_code)
