"""The command ``slices``: an app of Hydra's under its name, or one of the small commands beside it."""

from __future__ import annotations

import argparse
import os
import sys

from slices.training.cli import completion, doctor, inspecting, listing, runs
from slices.training.cli.apps import app_lines, become
from slices.training.cli.text import columns, printable

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
        print("error:", "\n".join(map(printable, str(error).splitlines())), file=sys.stderr)
        status = 2
    raise SystemExit(status or 0)


def _parser(apps: dict[str, str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """With the names of the commands that are no apps."""
    parser = argparse.ArgumentParser(
        prog="slices",
        usage="slices [-h] COMMAND ...",
        description="Self-supervised learning for ICU time series.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=lambda _: print(parser.format_help()))
    commands = parser.add_subparsers(prog="slices", help=argparse.SUPPRESS)
    for command in COMMANDS:
        command.add_to(commands)
    lines = {name: str(one.description) for name, one in commands.choices.items()}
    of_apps = "apps, with Hydra's words after them (`slices pretrain --help`):"
    parser.epilog = f"commands:\n{columns(lines.items(), 2)}\n\n{of_apps}\n{columns(apps.items(), 2)}"
    return parser, list(lines)


if __name__ == "__main__":
    main()
