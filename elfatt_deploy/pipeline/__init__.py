"""The spine: one module a verb, each calls the stages in order and has no logic of its own.

export_bundle, export_module   exporting.py   model -> ... -> ONNX -> parity -> bundle
check_bundle, check_onnx       checking.py    bundle or file -> lint -> parity
build_bundle                   building.py    bundle -> plan, proof of its precision
evaluate_bundle                evaluating.py  labelled images -> accuracy, agreement
bench_attention                benching.py    attention alone -> times
bench_models                   measuring.py   bundles -> interleaved processes -> run records
sweep, rehearse                sweeping.py    recipe -> cells of a board, mode by mode -> records
predict                        predicting.py  counted kernels, board files -> predicted run records
make, write                    reporting.py   run records -> tables, figures, one page
"""

from elfatt_deploy.pipeline.benching import bench_attention
from elfatt_deploy.pipeline.building import BuildRequest, build_bundle
from elfatt_deploy.pipeline.checking import check_bundle, check_onnx
from elfatt_deploy.pipeline.evaluating import evaluate_bundle
from elfatt_deploy.pipeline.exporting import export_bundle, export_module
from elfatt_deploy.pipeline.measuring import bench_models
from elfatt_deploy.pipeline.records import ExportPlan, ExportRequest, Outcome, Progress

__all__ = [
    "BuildRequest",
    "ExportPlan",
    "ExportRequest",
    "Outcome",
    "Progress",
    "bench_attention",
    "bench_models",
    "build_bundle",
    "check_bundle",
    "check_onnx",
    "evaluate_bundle",
    "export_bundle",
    "export_module",
]
