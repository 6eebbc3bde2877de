"""The folder layout of the hub: what goes out comes back, what is wrong is refused, nobody is called."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from slices.encoders import (
    EncoderCard,
    Normalizer,
    build_encoder,
    from_pretrained,
    list_encoders,
    pull,
    push,
    save_pretrained,
)


@pytest.mark.parametrize("name", list_encoders())
def test_every_encoder_comes_back(name: str, stays: dict[str, Tensor], tmp_path: Path) -> None:
    encoder = build_encoder(name, {"d_input": 5, "d_model": 8, "static_columns": (0,)}).eval()
    card = EncoderCard(variables=tuple("abcde"), objective="mae")
    save_pretrained(tmp_path / "there", encoder, Normalizer(["log"] * 5, [0.0] * 5, [1.0] * 5), card)
    loaded = from_pretrained(tmp_path / "there")
    assert torch.equal(loaded.encoder(**stays), encoder(**stays))
    assert loaded.card.variables == card.variables and loaded.normalizer is not None
    assert loaded.encoder.config == encoder.config


def test_others_can_read_both_files(tmp_path: Path) -> None:
    encoder = build_encoder("gru", {"d_input": 5})
    save_pretrained(tmp_path, encoder)
    weights = load_file(tmp_path / "model.safetensors")
    assert weights.keys() == encoder.state_dict().keys()
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["name"] == "gru" and config["config"]["d_input"] == 5
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


def other(content: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return content | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "gruu"}, "did you mean 'gru'"),
        ({"config": {"d_input": 5, "d_model": 32}}, "has shape"),
        ({"config": {"d_input": 5, "_target_": "os.system"}}, "_target_"),
        ({"format": "else"}, "not written by save_pretrained"),
        ({"format_version": 9}, "format version 9"),
        ({"card": []}, "card"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    save_pretrained(tmp_path, build_encoder("gru", {"d_input": 5}))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(ValueError, match=message):
        from_pretrained(tmp_path)


def test_damaged_and_absent_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"config\.json.*save_pretrained"):
        from_pretrained(tmp_path)
    save_pretrained(tmp_path, build_encoder("gru", {"d_input": 5}))
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"model\.safetensors: it is damaged"):
        from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json"):
        from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"config\.json"):
        from_pretrained(tmp_path)


def test_the_hub_gets_a_folder_that_loads_and_gives_one_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []

    class Api:
        def create_repo(self, name: str, **options: Any) -> None:
            asked.append((name, options))

        def upload_folder(self, **options: Any) -> str:
            asked.append(options)
            return "https://example.org/me/ward"

    def snapshot_download(name: str, **options: Any) -> str:
        asked.append((name, options["allow_patterns"]))
        return str(tmp_path)

    hub = SimpleNamespace(HfApi=Api, snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    with pytest.raises(FileNotFoundError):
        push(tmp_path, "me/ward")
    assert not asked
    save_pretrained(tmp_path, build_encoder("gru", {"d_input": 5}))
    assert push(tmp_path, "me/ward") == "https://example.org/me/ward"
    assert asked[0] == ("me/ward", {"private": True, "exist_ok": True})
    assert from_pretrained(pull("me/ward")).encoder.d_input == 5
    assert asked[-1] == ("me/ward", ["model.safetensors", "config.json"])


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"slices-encoders\[hub\]"):
        pull("me/ward")
