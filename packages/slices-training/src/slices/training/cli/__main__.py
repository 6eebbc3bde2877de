"""The command ``slices``: an app of Hydra's under its name, or one of the small commands beside it."""

from __future__ import annotations

import argparse
import functools
import os
import sys

from slices.training.cli import completion, doctor, inspecting, listing, runs
from slices.training.cli.apps import app_lines, become
from slices.training.cli.text import columns

COMMANDS = (listing, inspecting, runs, doctor, completion)


def main() -> None:
    apps, words = app_lines(), sys.argv[1:]
    if words and words[0] in apps:
        become(words[0], words[1:])
    parser, names = _parser(apps)
    try:
        if words and not words[0].startswith("-") and words[0] not in names:
            from slices.encoders.registry import unknown

            raise ValueError(unknown("command", words[0], {*apps, *names}))
        arguments = parser.parse_args(words)
        status = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # as of `slices runs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    raise SystemExit(status or 0)


def _parser(apps: dict[str, str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """With the names of the commands that are no apps."""
    parser = argparse.ArgumentParser(
        prog="slices",
        description="Self-supervised learning for ICU time series.",
        epilog=f"apps, with Hydra's words after them (`slices pretrain --help`):\n{columns(apps.items(), 2)}",
        formatter_class=functools.partial(argparse.RawDescriptionHelpFormatter, max_help_position=18),
    )
    parser.set_defaults(run=lambda _: print(parser.format_help()))
    commands = parser.add_subparsers(title="commands", metavar="")
    for command in COMMANDS:
        command.add_to(commands)
    return parser, list(commands.choices)


if __name__ == "__main__":
    main()
