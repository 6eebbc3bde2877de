"""What is in a dataset: numbers, as text, and as a page that needs nothing else."""

from slices.training.data.report.describe import describe_dataset
from slices.training.data.report.html import report_html
from slices.training.data.report.model import LabelSummary, Report, TaskReport, VariableReport
from slices.training.data.report.text import report_text

__all__ = [
    "LabelSummary",
    "Report",
    "TaskReport",
    "VariableReport",
    "describe_dataset",
    "report_html",
    "report_text",
]
