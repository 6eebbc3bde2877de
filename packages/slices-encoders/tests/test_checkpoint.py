from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from slices.encoders import (
    BaseEncoder,
    EncoderCard,
    Normalizer,
    build_encoder,
    list_encoders,
    load_encoder,
    read_card,
    save_encoder,
)

ENDINGS = ["pt", "safetensors"]
CARD = EncoderCard(
    variables=("hr", "map", "age"),
    units=("/min", "mmHg", "years"),
    objective="mae",
    versions={"slices-ssl": "0.1.0"},
    data={"fingerprint": "c0ffee", "split": {"train": 0.8}},
)
NORMALIZER = Normalizer(["identity", "log", "log"], [80.1, 0.3, 4.0], [12.0, 1.1, 0.2], clip=6.0)


def make(name: str = "transformer", **options: Any) -> BaseEncoder:
    return build_encoder(name, {"d_input": 3, "d_model": 8, "static_columns": [2], **options})


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", list_encoders())
def test_what_is_saved_is_loaded(name: str, ending: str, tmp_path: Path) -> None:
    encoder = make(name, pooling="attention").eval()
    loaded = load_encoder(save_encoder(tmp_path / f"there/encoder.{ending}", encoder, NORMALIZER, CARD))
    assert type(loaded.encoder) is type(encoder) and loaded.encoder.config == encoder.config
    assert not loaded.encoder.training
    x, mask = torch.randn(2, 5, 3), torch.rand(2, 5, 3) < 0.5
    assert torch.equal(loaded.encoder(x, mask), encoder(x, mask))
    assert loaded.normalizer is not None and loaded.normalizer.to_dict() == NORMALIZER.to_dict()
    for field in ("variables", "units", "time_unit", "objective", "data"):
        assert getattr(loaded.card, field) == getattr(CARD, field)
    assert loaded.card.versions.keys() == {"slices-encoders", "slices-ssl", "torch"}
    assert read_card(tmp_path / f"there/encoder.{ending}") == loaded.card


@pytest.mark.parametrize("ending", ENDINGS)
def test_normaliser_and_card_are_optional(ending: str, tmp_path: Path) -> None:
    loaded = load_encoder(save_encoder(tmp_path / f"bare.{ending}", make()))
    assert loaded.normalizer is None and loaded.card.variables == ()


@pytest.mark.parametrize("ending", ENDINGS)
def test_half_precision_weights_load_without_loss(ending: str, tmp_path: Path) -> None:
    encoder = make().bfloat16()
    loaded = load_encoder(save_encoder(tmp_path / f"half.{ending}", encoder)).encoder
    for mine, theirs in zip(encoder.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(mine.float(), theirs)


def test_pt_holds_plain_values_only(tmp_path: Path) -> None:
    content = torch.load(save_encoder(tmp_path / "e.pt", make(), NORMALIZER, CARD), weights_only=True)
    assert content["header"] == json.loads(json.dumps(content["header"]))


def test_safetensors_are_read_by_others(tmp_path: Path) -> None:
    encoder = make("lstm").half()
    read = safetensors.torch.load_file(save_encoder(tmp_path / "e.safetensors", encoder))
    assert read.keys() == encoder.state_dict().keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in encoder.state_dict().items())


def test_writing_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_encoder(tmp_path / "e.pt", make())
    before = path.read_bytes()

    def full_disk(content: object, part: Path) -> None:
        part.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_encoder(path, make())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", [load_encoder, read_card, lambda path: save_encoder(path, make())])
def test_other_endings_are_refused(call: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"encoder.bin must end in .pt or .safetensors"):
        call(tmp_path / "encoder.bin")


def test_what_cannot_be_loaded_again_is_not_saved(tmp_path: Path) -> None:
    class Unregistered(type(make("gru"))):  # type: ignore[misc]
        pass

    class OtherConfig(type(make("gru").config)):  # type: ignore[misc]
        pass

    path = tmp_path / "e.pt"
    with pytest.raises(ValueError, match=r"Unregistered.*not a registered encoder"):
        save_encoder(path, Unregistered(make("gru").config))
    with pytest.raises(ValueError, match="the config of a saved 'gru' must be RNNConfig, not OtherConfig"):
        save_encoder(path, type(make("gru"))(OtherConfig(d_input=3)))
    with pytest.raises(ValueError, match="the card names 2 variables, the encoder 3"):
        save_encoder(path, make(), card=EncoderCard(variables=("hr", "map")))
    with pytest.raises(ValueError, match="the normaliser has 1 variables, the encoder 3"):
        save_encoder(path, make(), Normalizer(["log"], [0.0], [1.0]))
    with pytest.raises(TypeError, match="plain values only"):
        save_encoder(path, make(), card=EncoderCard(data={"path": tmp_path}))
    with pytest.raises(ValueError, match="as many units as variables, 1, got 2"):
        EncoderCard(variables=("hr",), units=("/min", "mmHg"))
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no encoder at .*nowhere.pt"):
        load_encoder(tmp_path / "nowhere.pt")


def tamper(path: Path, **changes: Any) -> Path:
    """The same file with other entries in its header, or in ``weights``."""
    content = torch.load(path, weights_only=True)
    content["weights"] |= changes.pop("weights", {})
    content["weights"] = {name: tensor for name, tensor in content["weights"].items() if tensor is not None}
    content["header"] |= changes
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "transfomer"}, "unknown encoder 'transfomer': did you mean 'transformer'"),
        ({"name": "os.system"}, "unknown encoder 'os.system'"),
        ({"name": "gru"}, "unknown option 'n_heads'"),
        ({"config": {"_target_": "os.system"}}, "unknown option '_target_'"),
        ({"config": {"d_input": 3, "d_model": "8"}}, "expected int, got '8'"),
        ({"config": None}, "expected a mapping"),
        ({"config": {"d_input": 3, "dropout": 10**400}}, "its config has a size above"),
        ({"card": {"variabels": []}}, "unknown option 'variabels': did you mean 'variables'"),
        ({"card": {"variables": ["hr"]}}, "the card names 1 variables, the encoder 3"),
        ({"normalizer": {"transforms": ["log"]}}, "missing 2 required positional arguments"),
        (
            {"normalizer": {"transforms": ["log"], "location": [0.0], "scale": [0.0]}},
            "scale must be positive",
        ),
        ({"weights": {"norm.bias": None}}, "missing norm.bias"),
        ({"weights": {"extra": torch.zeros(1)}}, "unexpected extra"),
        ({"weights": {"norm.bias": torch.zeros(9)}}, r"norm.bias has shape \(9,\), not \(8,\)"),
        ({"weights": {"norm.bias": torch.zeros(8).int()}}, "norm.bias is torch.int32, not torch.float32"),
        ({"format_version": 2}, "it has format version 2.*install the one that wrote it"),
        ({"format": "other"}, "its format is not 'slices-encoder'"),
        ({"format_version": None}, "it has format version None"),
    ],
)
def test_what_does_not_match_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tamper(save_encoder(tmp_path / "e.pt", make()), **changes)
    with pytest.raises(ValueError, match=message) as caught:
        load_encoder(path)
    assert str(path) in str(caught.value)


def test_a_header_that_lacks_something_is_refused(tmp_path: Path) -> None:
    path = save_encoder(tmp_path / "e.pt", make())
    content = torch.load(path, weights_only=True)
    del content["header"]["card"], content["header"]["config"]
    torch.save(content, path)
    for read in (load_encoder, read_card):
        with pytest.raises(ValueError, match="its header lacks card, config"):
            read(path)


def test_all_that_does_not_match_is_listed(tmp_path: Path) -> None:
    path = tamper(save_encoder(tmp_path / "e.pt", make()), config={"d_input": 3, "d_model": 16})
    with pytest.raises(ValueError, match=r"norm.bias.*norm.weight"):
        load_encoder(path)
    many = tamper(path, config={"d_input": 3, "n_layers": 99, "d_model": 4})
    with pytest.raises(ValueError, match=r"\d{3,} of them: .*; \.\.\.") as caught:
        load_encoder(many)
    assert len(str(caught.value)) < 2000


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "exploded",)

    path = tmp_path / "bomb.pt"
    torch.save({"header": Bomb(), "weights": {}}, path)
    with pytest.raises(ValueError, match=r"cannot read .*bomb.pt"):
        load_encoder(path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match=r"cannot read .*bomb.pt"):
        load_encoder(path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "content", [{}, [], {"state_dict": {}}, {"header": {}, "weights": {}}, torch.zeros(2)]
)
def test_foreign_pt_files_are_refused(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "foreign.pt"
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"foreign.pt: .*was not written by save_encoder"):
        load_encoder(path)


def test_foreign_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"w": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=r"foreign.safetensors: .*was not written by save_encoder"):
        load_encoder(path)


@pytest.mark.parametrize("ending", ENDINGS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keep=st.floats(0, 0.999), noise=st.binary(max_size=4))
def test_cut_files_are_refused(ending: str, tmp_path: Path, keep: float, noise: bytes) -> None:
    whole = tmp_path / f"whole.{ending}"
    if not whole.exists():
        save_encoder(whole, make("linear"), NORMALIZER, CARD)
    content = whole.read_bytes()
    cut = tmp_path / f"cut.{ending}"
    damaged = content[: int(keep * len(content))] + noise
    assume(len(damaged) != len(content))  # other bytes in the place of the last are other weights
    cut.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"cannot (read|load) .*cut"):
        load_encoder(cut)
