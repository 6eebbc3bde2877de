"""``slices-prepare``: raw records to a dataset on disk."""

from __future__ import annotations

import logging
import time

from omegaconf import DictConfig

from slices.training.apps.launch import checking_what_was_asked, launch

log = logging.getLogger(__name__)


def prepare(config: DictConfig) -> None:
    """Prepares the dataset of the ``data`` section, and says what is in it and what was dropped."""
    from slices.training.apps.run import Cost
    from slices.training.config import PrepareConfig
    from slices.training.data.prepare import prepare_dataset

    cost = Cost()
    with checking_what_was_asked():
        parsed = PrepareConfig.parse(config)
        began = time.perf_counter()
        source = parsed.data.build_source()
        store = prepare_dataset(source, parsed.data.dataset_dir, overwrite=parsed.overwrite, jobs=parsed.jobs)
    manifest, seconds = store.manifest, time.perf_counter() - began
    counts = ", ".join(f"{count:,} {kind}" for kind, count in manifest.counts.items())
    log.info("%s: %s, %d variables", parsed.data.dataset_dir, counts, len(manifest.variables))
    log.info("tasks: %s", ", ".join(sorted(manifest.tasks)))
    for rule in manifest.drops.values():
        log.info("%9s  %s", f"{rule['count']:,}", rule["description"])
    rate = manifest.counts["stays"] / seconds
    log.info("took %s (%s stays/s)", cost, f"{rate:,.0f}")


def main() -> None:
    launch("prepare", prepare)


if __name__ == "__main__":
    main()
