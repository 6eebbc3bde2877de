"""Models judged by what they predicted: files in, tables out."""

from slices.training.evaluation.report.build import evaluate
from slices.training.evaluation.report.config import EvaluateConfig
from slices.training.evaluation.report.results import Evaluation
from slices.training.evaluation.report.text import report_markdown, report_text
from slices.training.evaluation.report.writing import write_evaluation

__all__ = [
    "EvaluateConfig",
    "Evaluation",
    "evaluate",
    "report_markdown",
    "report_text",
    "write_evaluation",
]
