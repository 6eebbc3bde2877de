"""``slices-evaluate``: models judged by what they predicted."""

from __future__ import annotations

import logging

from omegaconf import DictConfig

from slices.training.apps.launch import checking_what_was_asked, launch

log = logging.getLogger(__name__)


def evaluate(config: DictConfig) -> float:
    """Writes the evaluation of some prediction files. Returns the first model's first metric."""
    from hydra.core.hydra_config import HydraConfig

    from slices.training.apps.run import Cost
    from slices.training.evaluation.report import EvaluateConfig, report_text, write_evaluation
    from slices.training.evaluation.report import evaluate as judge
    from slices.training.report.evaluation import evaluation_page
    from slices.training.report.leaving import leave_report

    cost = Cost()
    with checking_what_was_asked():
        parsed = EvaluateConfig.parse(config)
        evaluation = judge(parsed)
        folder = write_evaluation(evaluation, parsed)
    log.info("%s", report_text(evaluation))
    typed = HydraConfig.get().overrides.task
    leave_report(folder, lambda: evaluation_page(evaluation, parsed, typed))
    log.info("everything: %s, after %s", folder / "evaluation.md", cost)
    return evaluation.estimates[0].estimate


def main() -> None:
    launch("evaluate", evaluate)


if __name__ == "__main__":
    main()
