"""Files that somebody made to do harm: refused by name, at once, with nothing run and no memory taken."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pickle
import resource
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import pytest
import torch
from torch import Tensor

from slices.encoders import (
    build_encoder,
    from_pretrained,
    list_encoders,
    load_encoder,
    save_encoder,
    save_pretrained,
)
from slices.encoders.archives import MOST_BYTES
from slices.encoders.config import MOST_LAYERS

SECONDS, MEGABYTES = 10, 150


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """Each test here takes little time and little memory."""
    peak, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    yield
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    assert grown < MEGABYTES * 1024 and time.perf_counter() - began < SECONDS


class Calls:
    """Pickled, a call of any function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def content(**header: Any) -> dict[str, Any]:
    """What a good file of a narrow GRU holds, with other entries in its header."""
    encoder = build_encoder("gru", {"d_input": 3, "d_model": 4})
    config = dataclasses.asdict(encoder.config)
    good = {"format": "slices-encoder", "format_version": 1, "name": "gru", "config": config}
    return {
        "header": good | {"normalizer": None, "card": {}} | header,
        "weights": {name: tensor.clone() for name, tensor in encoder.state_dict().items()},
    }


def refused(path: Path, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        load_encoder(path)
    assert str(path) in str(error.value) and len(str(error.value)) < 5000


def nested(value: Any, times: int, width: int = 1) -> Any:
    for _ in range(times):
        value = [value] * width
    return value


def with_weight(change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    held = content()
    name = next(iter(held["weights"]))
    held["weights"][name] = change(held["weights"][name])
    return held


CONTENTS: dict[str, tuple[Any, str]] = {
    "memory by a name that torch allows": (content(card=Calls(bytearray, 10**12)), "names .*bytearray"),
    "a tensor of its own making": (content(card=Calls(torch.Tensor, 10**10)), "names torch.*Tensor"),
    "a sparse tensor": (content(card=torch.eye(2).to_sparse()), "names torch._utils._rebuild_sparse"),
    "lists of lists of one list": (content(config=nested(["ha"], 30, 10)), "holds more than 1,000,000"),
    "a list in a list in a list": (content(config=nested("ha", 200)), "nested deeper than 32"),
    "a very long header": (content(card={"objective": "x" * 5_000_000}), "beside its weights it has 5,0"),
    "a tensor among plain values": (content(card={"data": {"x": torch.ones(1)}}), "holds a Tensor"),
    "infinity among plain values": (content(card={"data": {"x": float("inf")}}), "holds inf"),
    "one number as a terabyte": (with_weight(lambda w: torch.ones(1).expand(10**12)), "larger than its data"),
    "one row many times": (with_weight(lambda w: w[:1].clone().expand(w.shape)), "larger than its data"),
    "NaN": (with_weight(lambda w: w * float("nan")), "not finite, 1 of them: "),
    "infinity": (with_weight(lambda w: w + float("inf")), "not finite, 1 of them: "),
    "complex numbers": (with_weight(lambda w: w.to(torch.complex64)), "is torch.complex64, not"),
    "an import path": (content(name="os.system"), "unknown encoder 'os.system'"),
    "a target": (content(config={"_target_": "os.system", "d_input": 3}), "unknown option '_target_'"),
    "a path as a config": (content(config="os.system"), "expected a mapping"),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_what_is_no_encoder_is_refused(kind: str, tmp_path: Path) -> None:
    held, reason = CONTENTS[kind]
    torch.save(held, tmp_path / "e.pt")
    refused(tmp_path / "e.pt", reason)


@pytest.mark.parametrize("in_zip", [True, False])
def test_code_is_not_run(in_zip: bool, tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "e.pt"
    for function, *arguments in ((os.mkdir, str(canary)), (os.system, f"touch {canary}"), (exec, "1/0")):
        held = content(card=Calls(function, *arguments))  # type: ignore[arg-type]
        torch.save(held, path, _use_new_zipfile_serialization=in_zip)
        refused(path, "names|cannot read")
        path.write_bytes(pickle.dumps(held))
        refused(path, "cannot read")
    assert not canary.exists()


def archive(path: Path, *more: ZipInfo | str, compress: bool = False) -> Path:
    """A good file, with more records in its archive, which ends as torch.save ends one."""
    torch.save(content(), path)
    with ZipFile(path) as old:
        held = {name: old.read(name) for name in old.namelist()}
    with ZipFile(path, "w", ZIP_DEFLATED if compress else ZIP_STORED) as new:
        for name, data in held.items():
            new.writestr(name, data)
        for record in more:
            new.writestr(record, "../../outside")
    return ended(path)


def ended(path: Path, wrong_by: int = 0) -> Path:
    data = path.read_bytes()
    short, place = data[-22:], len(data) - 22
    count, size, offset = (int.from_bytes(short[a:b], "little") for a, b in ((10, 12), (12, 16), (16, 20)))
    numbers = b"".join(number.to_bytes(8, "little") for number in (count, count, size, offset))
    long = b"PK\6\6" + (44).to_bytes(8, "little") + bytes(12) + numbers
    locator = b"PK\6\7" + bytes(4) + (place - wrong_by).to_bytes(8, "little") + b"\1\0\0\0"
    path.write_bytes(data[:-22] + long + locator + short)
    return path


def link() -> ZipInfo:
    record = ZipInfo("e/link")
    record.external_attr = 0o120777 << 16
    return record


def cut(name: str) -> ZipInfo:
    """A record of any name: given one, ``ZipInfo`` cuts it at NUL."""
    record = ZipInfo("e/cut")
    record.filename = name
    return record


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_torch_does_not_write_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.pt"
    load_encoder(archive(path))  # the others differ from it in what is said
    refused(archive(path, compress=True), "is compressed")
    refused(archive(path, "../outside"), "'../outside' is no file within it")
    refused(archive(path, "/etc/outside"), "'/etc/outside' is no file within it")
    refused(archive(path, "e\\..\\outside"), "is no file within it")
    refused(archive(path, link()), "'e/link' is no file within it")
    refused(archive(path, "e/data.pkl"), "a record twice")
    refused(archive(path, "e/DATA.PKL"), "a record twice")  # which torch would read in its place
    refused(archive(path, cut("e/data.pkl\0")), "'e/data.pkl.x00' has two names")
    torch.save(content(), path)
    path.write_bytes(path.read_bytes()[:-98] + path.read_bytes()[-22:])
    refused(path, "not end as torch.save")
    with ZipFile(path, "w") as new:
        new.writestr("e/data.pkl", "")
    refused(ended(path, wrong_by=8), "not end as torch.save")
    assert list(tmp_path.iterdir()) == [path]


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "e.pt"
    with ZipFile(path, "w", ZIP_DEFLATED) as bomb:
        bomb.writestr("e/data.pkl", bytes(100_000_000))
    assert path.stat().st_size < 1_000_000
    refused(ended(path), "is compressed")
    data = path.read_bytes()  # and one that says it is not
    path.write_bytes(data.replace(b"\x08\x00", b"\x00\x00"))
    refused(path, "claim more than it holds|cannot read")


def test_a_storage_that_claims_more_than_its_record_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.pt"
    torch.save({"header": {}, "weights": {"w": torch.ones(77)}}, path)
    with ZipFile(path) as old:
        held = {name: old.read(name) for name in old.namelist()}
    with ZipFile(path, "w") as new:
        for name, data in held.items():
            new.writestr(name, data.replace(b"K\x4d", b"J\xff\xff\xff\x7f"))
    refused(ended(path), "cannot read")


def test_tar_files_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "e.pt", "w") as tar:
        tar.addfile(tarfile.TarInfo("../outside"), io.BytesIO())
    refused(tmp_path / "e.pt", "cannot read")


@pytest.mark.parametrize("place", ["data/0", "data.pkl", "data/1"])
def test_a_flipped_bit_in_pt_is_noticed(place: str, tmp_path: Path) -> None:
    path = tmp_path / "e.pt"
    torch.save(content(), path)
    with ZipFile(path) as old:
        offset = old.getinfo(f"e/{place}").header_offset
    data = bytearray(path.read_bytes())
    data[offset + 130] ^= 1  # beyond name and padding
    path.write_bytes(data)
    refused(path, "is damaged|cannot read")


def safetensors(path: Path, change: Callable[[dict[str, Any]], Any], body: bytes = b"") -> Path:
    """A good file whose header was changed after it was written."""
    save_encoder(path, build_encoder("gru", {"d_input": 3, "d_model": 4}))
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + length])
    head = change(head) or head
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :] + body)
    return path


def entry(head: dict[str, Any], **changes: Any) -> None:
    """Other words about its first tensor; no checksum, as in a file of another library."""
    head["__metadata__"].pop("crc32")
    head[next(name for name in head if name != "__metadata__")] |= changes


def say(head: dict[str, Any], text: str) -> None:
    head["__metadata__"].pop("crc32")
    head["__metadata__"]["slices-encoder"] = text


HEADS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "overlapping tensors": (lambda head: entry(head, data_offsets=[4, 52]), "cannot read"),
    "offsets beyond the file": (lambda head: entry(head, data_offsets=[0, 10**15]), "cannot read"),
    "negative offsets": (lambda head: entry(head, data_offsets=[-8, 40]), "cannot read"),
    "a shape of a terabyte": (lambda head: entry(head, shape=[10**12]), "cannot read"),
    "a shape that overflows": (lambda head: entry(head, shape=[2**33, 2**33]), "cannot read"),
    "an unknown type": (lambda head: entry(head, dtype="pickle"), "cannot read"),
    "another type": (lambda head: entry(head, dtype="I32"), "is torch.int32, not torch.float32"),
    "another word": (lambda head: head["__metadata__"].update(x="y"), "its checksum is"),
    "a deep header": (lambda head: b"[" * 100_000, "nested deeper"),
    "deep metadata": (lambda head: say(head, "[" * 100_000), "nested deeper"),
    "no mapping": (lambda head: b"[]", "cannot read"),
    "a key twice": (lambda head: say(head, '{"name": "gru", "name": "lstm"}'), "says a key twice"),
    "a number that is none": (lambda head: say(head, '{"d_model": NaN}'), "holds nan"),
    "an overflowing number": (lambda head: say(head, '{"d_model": 1e999}'), "holds inf"),
    "a number of many digits": (lambda head: say(head, '{"d_model": 1%s}' % ("0" * 9999)), "cannot read"),
}


@pytest.mark.parametrize("kind", HEADS)
def test_safetensors_whose_header_lies_are_refused(kind: str, tmp_path: Path) -> None:
    change, reason = HEADS[kind]
    refused(safetensors(tmp_path / "e.safetensors", change), reason)


def test_safetensors_of_lying_length_are_refused(tmp_path: Path) -> None:
    path = safetensors(tmp_path / "e.safetensors", lambda head: None)
    data = path.read_bytes()
    for length in (2**63, 2**40, 5_000_000, len(data), 9, 0):
        path.write_bytes(length.to_bytes(8, "little") + data[8:])
        refused(path, "cannot read")
    path.write_bytes((5_000_000).to_bytes(8, "little") + bytes(6_000_000))
    refused(path, "its header claims 5,000,000 bytes")


def test_a_file_larger_than_the_memory_is_refused_though_it_takes_no_disk(tmp_path: Path) -> None:
    for path in (tmp_path / "e.safetensors", tmp_path / "e.pt"):
        save_encoder(path, build_encoder("gru", {"d_input": 3}))
        os.truncate(path, 1 << 42)
        refused(path, "larger than the memory")


def test_a_flipped_bit_in_safetensors_is_noticed_but_others_files_have_no_checksum(tmp_path: Path) -> None:
    path = safetensors(tmp_path / "e.safetensors", lambda head: None)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    refused(path, "its checksum is [0-9a-f]{8}, not [0-9a-f]{8}")
    load_encoder(safetensors(path, lambda head: entry(head)))


@pytest.mark.parametrize("name", list_encoders())
def test_a_config_that_asks_for_a_giant_is_refused_before_it_is_built(name: str, tmp_path: Path) -> None:
    path = tmp_path / "e.pt"
    save_encoder(path, build_encoder(name, {"d_input": 3, "d_model": 8, "static_columns": [2]}))
    good = torch.load(path, weights_only=True)
    config = good["header"]["config"]
    sizes = [key for key, value in config.items() if type(value) is int or key == "d_ff"]
    deep, wide = {"n_layers": 900}, dict.fromkeys(sizes, 9_000) | {"n_layers": 1}
    for change in (dict.fromkeys(sizes, 10**9), deep, wide):
        torch.save(good | {"header": good["header"] | {"config": config | change}}, path)
        refused(path, "cannot load .*(size above|far more than|do not fit|must be 1)")


def test_one_tensor_of_many_names_allows_no_larger_config(tmp_path: Path) -> None:
    held = content(config={"d_input": 3, "d_model": 4_000})
    held["weights"] |= dict.fromkeys(map(str, range(1_000)), torch.ones(100_000))
    torch.save(held, tmp_path / "e.pt")
    assert (tmp_path / "e.pt").stat().st_size < 1_000_000
    refused(tmp_path / "e.pt", "far more than its weights are")


@pytest.mark.parametrize("name", ["duett", "smart", "transformer"])  # of many weights a layer
def test_the_deepest_encoder_can_be_read_again(name: str, tmp_path: Path) -> None:
    sizes = []
    for n_layers in (1, 2):
        encoder = build_encoder(name, {"d_input": 3, "n_layers": n_layers, "static_columns": [2]})
        path = save_encoder(tmp_path / "e.safetensors", encoder)
        sizes.append(int.from_bytes(path.read_bytes()[:8], "little"))
    assert (sizes[1] - sizes[0]) * MOST_LAYERS < 0.9 * MOST_BYTES


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_an_encoder_with_weights_that_are_no_numbers_is_not_saved(value: float, tmp_path: Path) -> None:
    encoder = build_encoder("gru", {"d_input": 3})
    next(encoder.parameters()).data.view(-1)[0] = value
    for name in ("e.pt", "e.safetensors"):
        with pytest.raises(ValueError, match="not finite, 1 of them: "):
            save_encoder(tmp_path / name, encoder)
    with pytest.raises(ValueError, match="not finite, 1 of them: "):
        save_pretrained(tmp_path / "folder", encoder)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_a_hostile_config_is_refused(tmp_path: Path) -> None:
    save_pretrained(tmp_path, build_encoder("gru", {"d_input": 3}))
    config = json.loads((tmp_path / "config.json").read_text())
    for change, reason in (
        ({"config": {"d_input": 3, "n_layers": 10**9}}, "size above"),
        ({"config": {"d_input": 3, "n_layers": 900}}, "far more than"),
        ({"card": {"data": {"x": float("nan")}}}, "holds nan"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match=reason):
            from_pretrained(tmp_path)
    config_file = tmp_path / "config.json"
    os.truncate(config_file, 1 << 42)
    with pytest.raises(ValueError, match="too large to be the config"):
        from_pretrained(tmp_path)
