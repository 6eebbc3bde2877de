"""``slices completion``: a script for the shell, that completes commands and, after an app, Hydra's words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from slices.training.cli.apps import app_lines
from slices.training.cli.listing import KINDS

BASH = """\
_slices() {{
    local app="${{COMP_WORDS[1]}}" word="${{COMP_WORDS[COMP_CWORD]}}" choices
    if (( COMP_CWORD == 1 )); then choices="{apps} {own}"
    elif [[ $app == list ]]; then choices="{kinds}"
    elif [[ $app == completion ]]; then choices="bash zsh fish"
    elif [[ " {apps} " == *" $app "* ]]; then
        local line="slices-$app${{COMP_LINE#*$app}}"
        choices=$(COMP_LINE="$line" COMP_POINT=${{#line}} slices $app -sc query=bash 2> /dev/null)
    fi
    COMPREPLY=($(compgen -W "$choices" -- "$word"))
    [[ ${{COMPREPLY[0]}} == *= || ${{COMPREPLY[0]}} == *. ]] && compopt -o nospace 2> /dev/null
}}
COMP_WORDBREAKS=${{COMP_WORDBREAKS//=}}  # as Hydra's own script does
complete -o default -F _slices slices
"""
ZSH = "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n"
FISH = """\
complete -c slices -n __fish_use_subcommand -f -a "{apps} {own}"
complete -c slices -n "__fish_seen_subcommand_from list" -f -a "{kinds}"
complete -c slices -n "__fish_seen_subcommand_from completion" -f -a "bash zsh fish"
function __slices_words
    set -l typed (commandline --tokenize --cut-at-cursor --current-process)
    set -l line (commandline --cut-at-cursor --current-process)
    set -lx COMP_LINE (string replace -r '^\\s*\\S+\\s+' slices- $line)
    slices $typed[2] -sc query=fish 2> /dev/null
end
function __slices_in_app
    __fish_seen_subcommand_from {apps}; and not __fish_seen_subcommand_from {own}
end
complete -c slices -n __slices_in_app -a "(__slices_words)"
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH + BASH, "fish": FISH}


def add_to(commands: Any) -> None:
    parser = commands.add_parser("completion", description="a script that lets the shell complete `slices`")
    parser.add_argument("shell", choices=SCRIPTS, metavar="SHELL", help=", ".join(SCRIPTS))
    parser.set_defaults(run=lambda arguments: run(arguments.shell, commands.choices))


def run(shell: str, own: Iterable[str]) -> int:
    words = {"apps": app_lines(), "own": own, "kinds": KINDS}
    print(SCRIPTS[shell].format(**{name: " ".join(of) for name, of in words.items()}), end="")
    return 0
