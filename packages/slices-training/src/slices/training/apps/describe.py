"""``slices-describe``: what is in a dataset, as text and as a page."""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig

from slices.training.apps.launch import checking_what_was_asked, launch

log = logging.getLogger(__name__)


def describe(config: DictConfig) -> None:
    """Describes the dataset of the ``data`` section, which is prepared first where it is not there."""
    from slices.training.apps.run import Cost
    from slices.training.config import DescribeConfig
    from slices.training.data.prepare import prepare_dataset
    from slices.training.data.report import describe_dataset, report_html, report_text
    from slices.training.data.verify import verify_dataset

    cost = Cost()
    with checking_what_was_asked():
        parsed = DescribeConfig.parse(config)
        folder = Path(parsed.folder)
        folder.mkdir(parents=True, exist_ok=True)
        if parsed.verify and Path(parsed.data.dataset_dir).exists():
            verify_dataset(parsed.data.dataset_dir)  # before it is opened: what is damaged may not even open
            log.info("%s: every file is as it was written", parsed.data.dataset_dir)
        store = prepare_dataset(parsed.data.build_source(), parsed.data.dataset_dir)
    report = describe_dataset(store, min_patients=parsed.min_patients)
    text = report_text(report)
    (folder / "report.txt").write_text(text, encoding="utf-8")
    (folder / "report.html").write_text(report_html(report), encoding="utf-8")
    log.info("%s", text)
    log.info("report: %s and %s, after %s", folder / "report.html", folder / "report.txt", cost)


def main() -> None:
    launch("describe", describe)


if __name__ == "__main__":
    main()
