"""Names what became slower from one result of ``bench:train --json`` to another.

``hatch run bench:slower OLD.json NEW.json [--by 1.1]``

Compared is how far a step is above the machine's floor (``over_floor``), which takes out most of what differs
between machines, and the Trainer's step over the bare loop's (``over_bare``). Ends with status 1 where one
grew by more than ``--by``, or a row is missing.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

COMPARED = ("over_floor", "over_bare")
Rows = dict[str, dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--by", type=float, default=1.1)
    asked = parser.parse_args()
    found = slower(rows_of(asked.old), rows_of(asked.new), asked.by)
    print("\n".join(found) or "nothing became slower")
    sys.exit(bool(found))


def rows_of(path: Path) -> Rows:
    """The file's rows, by encoder and objective."""
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return {f"{row['encoder']}, {row['ssl']}": row for row in rows}


def slower(old: Rows, new: Rows, by: float) -> list[str]:
    """A line for each row that became slower, or is there no more.

    >>> old = {"gru, mae": {"over_floor": 2.0, "over_bare": 1.04}}
    >>> slower(old, {"gru, mae": {"over_floor": 2.5, "over_bare": 1.03}}, by=1.1)
    ['gru, mae: over_floor 2.00 -> 2.50 (x 1.25)']
    """
    lines = [f"{name}: not measured any more" for name in old.keys() - new.keys()]
    for name in sorted(old.keys() & new.keys()):
        for figure in COMPARED:
            before, now = old[name][figure], new[name][figure]
            if now > by * before:
                lines.append(f"{name}: {figure} {before:.2f} -> {now:.2f} (x {now / before:.2f})")
    return lines


if __name__ == "__main__":
    main()
