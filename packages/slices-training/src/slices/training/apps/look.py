"""``slices-look``: single stays of a run, on a page."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from omegaconf import DictConfig

from slices.training.apps.launch import checking_what_was_asked, launch
from slices.training.apps.replay import named
from slices.training.compose import command
from slices.training.errors import UserError

log = logging.getLogger(__name__)
ABOUT = "This page holds what was measured of single patients: keep it where the data may be."


def look(config: DictConfig) -> None:
    """Writes ``report.html`` with some stays as the model of a run sees them."""
    from hydra.core.hydra_config import HydraConfig

    from slices.training.looking.config import LookConfig
    from slices.training.looking.run import page_of, require_drawing
    from slices.training.quiet import quiet_lightning
    from slices.training.report.page import write_page
    from slices.training.report.style import styled

    quiet_lightning()
    with checking_what_was_asked():
        parsed = LookConfig.parse(config)
        if parsed.run is None:
            raise UserError(
                f"run is missing: give its folder, as in `{command('look')} outputs/pretrain/mine`"
            )
        require_drawing(parsed.map)
        with styled():
            path = write_page(page_of(parsed, ABOUT), Path(HydraConfig.get().runtime.output_dir))
    log.info("%s\nreport: %s", ABOUT, path)


def main() -> None:
    sys.argv[1:] = named(sys.argv[1:])
    launch("look", look)


if __name__ == "__main__":
    main()
