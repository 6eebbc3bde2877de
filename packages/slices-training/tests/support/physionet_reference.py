"""Sets of the challenge drawn with every fault they can have, and a slow and obvious reading of them."""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st

from reference import Reference, number
from slices.training.data.sources.physionet2012.variables import VARIABLES

KNOWN = {variable.name: variable for variable in VARIABLES}
STATIC = ("Age", "Gender", "Height", "ICUType")
ICU_TYPES = ("ICUType_coronary", "ICUType_cardiac_surgery", "ICUType_medical", "ICUType_surgical")
HEADER = "Time,Parameter,Value"


class RawSet(NamedTuple):
    name: str
    packed: str  # "", ".tar.gz" or ".zip"
    stays: dict[int, str]  # the text of each


sound = (["00:07", "00:50", "26:15", "48:00"], ["HR", "MAP", "NIMAP", "Urine"], ["80", "37 ", "100"])
clocks = ["00:00", "00:07", " 01:00", "10:30", "48:00", "48:01", "1:5", "-1:00", ""]
names = [" HR ", "NIMAP", "Urine", "Temp", "pH", "FiO2", "Weight", "TropI", "Zebra", " ", ""]
values = ["4000", "0.5", "735", "98.6", "0", "-1", "-1.0", "-17.8", "nan", "inf", "1e400", "x", ""]
described = ["-1", "54", "1", "4", "1.7", "170", "9", "-20", "nan", "?"]
measured = st.tuples(*map(st.sampled_from, sound))
faulty = st.tuples(*map(st.sampled_from, (clocks, names, values)))
early = ["00:00", "00:00", "00:10"]
descriptors = st.tuples(*map(st.sampled_from, (early, [*STATIC, "RecordID"], described)))
lines = st.one_of(
    *[measured.map(",".join)] * 4,
    *[faulty.map(",".join)] * 3,
    *[descriptors.map(",".join)] * 2,
    st.sampled_from(["00:07,Urine,80\n00:50,Urine,90", "00:07,MAP,80\n00:07,MAP,90\n00:50,MAP,60"]),
    st.sampled_from(["", "00:10,HR", "00:10,HR,80,90", HEADER, "\ufeff00:00,Age,54"]),
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    body = draw(st.lists(lines, max_size=12))
    head = draw(st.sampled_from([[HEADER], [HEADER], ["\ufeff" + HEADER, "00:00,RecordID,1"], []]))
    return draw(st.sampled_from(["\n", "\r\n"])).join([*head, *body])


sets = st.builds(
    RawSet,
    st.just("?"),
    st.sampled_from(["", ".tar.gz", ".zip"]),
    st.dictionaries(st.integers(1, 4), texts(), min_size=1, max_size=3),
)
raw_sets = st.lists(sets, min_size=1, max_size=2).map(
    lambda found: [of._replace(name=name) for of, name in zip(found, "ab", strict=False)]
)


def write_sets(raw: list[RawSet], folder: Path) -> dict[str, Any]:
    """The sets on disk, and the options of the source that reads them."""
    folder.mkdir()
    for of in raw:
        path = folder / f"set-{of.name}{of.packed}"
        contents = {f"{number}.txt": text.encode() for number, text in of.stays.items()}
        if of.packed == ".zip":
            with zipfile.ZipFile(path, "w") as archive:
                for name, content in contents.items():
                    archive.writestr(f"set-{of.name}/{name}", content)
        elif of.packed:
            with tarfile.open(path, "w:gz") as tar:
                for name, content in contents.items():
                    entry = tarfile.TarInfo(f"set-{of.name}/{name}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
        else:
            path.mkdir()
            for name, content in contents.items():
                (path / name).write_bytes(content)
    return {"name": "physionet2012", "raw": str(folder)}


class PhysioNetReference(Reference):
    """What should be kept of the files, and what should be counted, one line after the other."""

    def __init__(self, raw: list[RawSet]) -> None:
        super().__init__()
        kept: list[Any] = []
        earlier: set[int] = set()
        for of in raw:
            self.stays, self.events = {stay: (stay, of.name, 48.0) for stay in of.stays}, []
            for stay, text in of.stays.items():
                self.read(stay, text)
            self.clean(KNOWN)
            self.merge()
            self.clean(KNOWN)  # a sum can be out of range where its terms were not
            self.counts["repeated_stay"] += len(earlier & set(of.stays))
            kept += [event for event in self.events if event[0] not in earlier]
            self.counts["no_outcome"] += len(set(of.stays) - earlier)
            earlier |= set(of.stays)
        self.events = kept
        self.stays = {stay: (stay, of.name, 48.0) for of in reversed(raw) for stay in of.stays}

    def read(self, stay: int, text: str) -> None:
        given = [line.strip() for line in text.removeprefix("\ufeff").rstrip().split("\n")]
        n_headers = given.count(HEADER)
        self.counts["repeated_header"] += max(n_headers - 1, 0)
        self.counts["no_header"] += n_headers == 0
        record_ids: set[float] = set()
        described: set[str] = set()
        for line in given:
            rule = None if line == HEADER else self.add(stay, line, record_ids, described)
            if rule:
                self.counts[rule] += 1
        self.counts["no_record_id"] += not record_ids
        self.counts["other_record_id"] += bool(record_ids - {stay})

    def add(self, stay: int, line: str, record_ids: set[float], described: set[str]) -> str | None:
        """Take a line as an event, or say by which rule it is left out."""
        if not line:
            return "blank_line"
        if line.count(",") != 2:
            return "malformed_line"
        clock, name, word = (field.strip() for field in line.split(","))
        time, value = re.fullmatch(r"(\d{1,3}):([0-5]\d)", clock), number(word)
        name = {"TropI": "TroponinI"}.get(name, name)
        if time is None:
            return "bad_clock"
        hours = int(time[1]) + int(time[2]) / 60
        if hours > 48:
            return "after_48_hours"
        if not name:
            return "blank_parameter"
        if name not in {*KNOWN, *STATIC, "RecordID"}:
            return "unknown_parameter"
        if value is None:
            return "not_a_number"
        if value == -1:
            return "unknown_value"
        if name == "RecordID":
            record_ids.add(value)
            return None
        if name not in STATIC:
            self.events.append((stay, hours, name, value))
            return None
        return self.describe(stay, hours, name, value, described)

    def describe(self, stay: int, hours: float, name: str, value: float, described: set[str]) -> str | None:
        if hours != 0:
            return "late_descriptor"
        if name in described:
            return "repeated_descriptor"
        described.add(name)
        if name != "ICUType":
            self.events.append((stay, 0.0, name, value))
            return None
        if value not in (1, 2, 3, 4):
            return "bad_icu_type"
        self.events += [(stay, 0.0, icu, float(value == i)) for i, icu in enumerate(ICU_TYPES, 1)]
        return None

    def merge(self) -> None:
        """Of several values in one minute the mean, of amounts the sum."""
        at_once = defaultdict[Any, list[float]](list)
        for stay, time, name, value in self.events:
            at_once[stay, time, name].append(value or 0.0)
        self.counts["same_minute"] += len(self.events) - len(at_once)
        self.events = [
            (*key, sum(of) if KNOWN[key[2]].aggregate == "sum" else sum(of) / len(of))
            for key, of in at_once.items()
        ]
