"""The spine: one module a verb, each calls the stages in order and has no logic of its own.

export_bundle, export_module   exporting.py   model -> ... -> ONNX -> parity -> bundle
check_bundle, check_onnx       checking.py    bundle or file -> lint -> parity
evaluate_bundle                evaluating.py  labelled images -> accuracy, agreement
bench_attention                benching.py    attention alone -> times
"""

from elfatt_deploy.pipeline.benching import bench_attention
from elfatt_deploy.pipeline.checking import check_bundle, check_onnx
from elfatt_deploy.pipeline.evaluating import evaluate_bundle
from elfatt_deploy.pipeline.exporting import export_bundle, export_module
from elfatt_deploy.pipeline.records import ExportPlan, ExportRequest, Outcome, Progress

__all__ = [
    "ExportPlan",
    "ExportRequest",
    "Outcome",
    "Progress",
    "bench_attention",
    "check_bundle",
    "check_onnx",
    "evaluate_bundle",
    "export_bundle",
    "export_module",
]
