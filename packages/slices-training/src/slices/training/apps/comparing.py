"""What two runs say otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from slices.training.apps.record import learnt
from slices.training.past_runs import read_record

HOW = ("data", "device", "precision", "deterministic")  # what may explain another end
ABSENT = "-"


class Difference(NamedTuple):
    """Of what, and how it was then and is now."""

    name: str
    then: Any
    now: Any


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Where the sections that ``now`` has are others than those of ``then``.

    >>> differences({"seed": 0, "versions": {"torch": "2.6"}}, {"versions": {"torch": "2.7"}})
    [Difference(name='versions.torch', then='2.6', now='2.7')]
    """
    old, new = _flat({key: then.get(key) for key in now}), _flat(now)
    pairs = [(name, old.get(name, ABSENT), new.get(name, ABSENT)) for name in sorted(old.keys() | new.keys())]
    return [Difference(*pair) for pair in pairs if pair[1] != pair[2]]


def _flat(sections: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in sections.items():
        name = f"{prefix}{key}"
        found |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return found


def other_ends(run: Path, again: Path) -> list[Difference]:
    """How a replay ended otherwise than its run, after what may explain it; nothing where both are equal.

    Metrics are compared where both have them: of a run that was resumed when it was complete, some are gone.
    """
    then, now = read_record(run), read_record(again)
    old, new = then["metrics"], now["metrics"]
    found = [
        Difference(name, old[name], f"{new[name]} ({new[name] - old[name]:+.2g})")
        for name in sorted(old.keys() & new.keys())
        if repr(old[name]) != repr(new[name])  # nan is nan
    ]
    found += _otherwise_learnt(run, then["result"], again, now["result"])
    how = {key: now[key] for key in HOW if key in now}
    return [*differences(then, how), *found] if found else []


def _otherwise_learnt(
    run: Path, then: Mapping[str, str], again: Path, now: Mapping[str, str]
) -> list[Difference]:
    if then["sha256"] == now["sha256"]:
        return []
    found = [Difference(now["file"], then["sha256"][:12], now["sha256"][:12])]
    if (run / then["file"]).is_file():
        gap = _largest_gap(run / then["file"], again / now["file"])
        found.append(Difference("largest difference", ABSENT, gap))
    return found


def _largest_gap(then: Path, now: Path) -> str:
    old, new = learnt(then), learnt(now)
    if {name: t.shape for name, t in old.items()} != {name: t.shape for name, t in new.items()}:
        return "other names or shapes"
    gaps = {
        name: (value.double() - new[name].double()).abs().max().item()
        for name, value in old.items()
        if value.numel()
    }
    name = max(gaps, key=lambda name: gaps[name])
    return f"{gaps[name]:.2g} in {name}"


def as_table(rows: Sequence[Difference]) -> str:
    """
    >>> print(as_table([Difference("versions.torch", "2.6", "2.7")]))
                      then  now
      versions.torch  2.6   2.7
    """
    cells = [("", "then", "now"), *((row.name, str(row.then), str(row.now)) for row in rows)]
    first, second = (max(len(row[column]) for row in cells) for column in (0, 1))
    return "\n".join(f"  {name:<{first}}  {then:<{second}}  {now}" for name, then, now in cells)
