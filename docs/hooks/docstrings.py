"""Docstrings as Markdown: doctests become blocks of code, and names in the manner of Sphinx plain code."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):`~?(?:[\w.]+\.)?(\w+)`")
DOCTEST = re.compile(r"^>>>.*(?:\n.+)*", re.MULTILINE)


def as_markdown(text: str) -> str:
    """The same docstring in Markdown."""
    return DOCTEST.sub(r"```pycon\n\g<0>\n```", ROLE.sub(r"`\1`", text))


class Docstrings(Extension):
    """Rewrites the docstring of whatever is collected."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
