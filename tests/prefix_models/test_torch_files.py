"""State dicts are found in what was saved; names in pickles are learnt without running anything."""

import pickle
import zipfile
from json import JSONDecodeError, JSONDecoder, JSONEncoder
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefix_models.torch_files import bare_state_dict, foreign_names


@pytest.mark.parametrize(
    "name", ["gpt.w", "module.gpt.w", "model.gpt.w", "_orig_mod.gpt.w", "gpt._orig_mod.w",
             "model._orig_mod.module.gpt.w", "module.model.gpt.w"]
)  # fmt: skip
@pytest.mark.parametrize("key", [None, "state_dict", "model_state_dict", "model"])
def test_wrappings_come_off(name: str, key: str | None) -> None:
    state = {name: 1, name.replace("gpt", "clip_project"): 2}
    found = bare_state_dict(state if key is None else {key: state, "epoch": 3})
    assert found == {"gpt.w": 1, "clip_project.w": 2}


@pytest.mark.parametrize(
    "state",
    [{}, {"model.gpt.w": 1, "loss.w": 2}, {"model": 1}, {"gpt.w": 1, "_orig_mod.gpt.w": 2}, [1]],
)
def test_anything_else_stays(state: Any) -> None:
    assert bare_state_dict(state) == state


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def save(content: Any, path: Path, protocol: int, legacy: bool) -> bytes:
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    return path.read_bytes()


any_format = pytest.mark.parametrize(
    ("protocol", "legacy"), [(p, legacy) for p in (2, 3, 4, 5) for legacy in (False, True)]
)


@any_format
def test_tensors_and_plain_values_are_nothing_foreign(
    tmp_path: Path, protocol: int, legacy: bool
) -> None:
    kinds = [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
    content = {str(kind): torch.ones(2, 3).to(kind) for kind in kinds}
    content |= torch.nn.Linear(2, 2).state_dict()  # an OrderedDict
    content |= {"p": torch.nn.Parameter(torch.ones(2)), "size": torch.Size([1]), "n": [1, None]}
    content |= {"dtype": torch.float64, "device": torch.device("cpu"), "set": {1, 2}}
    save(content, tmp_path / "w.pt", protocol, legacy)
    assert foreign_names(tmp_path / "w.pt") == []


@any_format
def test_everything_else_is_named_and_not_run(tmp_path: Path, protocol: int, legacy: bool) -> None:
    content = {"a": torch.ones(2), "b": Trap(tmp_path / "trap"), "c": torch.nn.Linear(2, 2)}
    save(content, tmp_path / "w.pt", protocol, legacy)
    names = foreign_names(tmp_path / "w.pt")
    assert any(name.startswith("pathlib.") for name in names)
    assert "torch.nn.modules.linear.Linear" in names and len(set(names)) == len(names)
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "w.pt").write_bytes(pickle.dumps([1, {"a": (2.5, b"x", {3})}], protocol))
    assert foreign_names(tmp_path / "w.pt") == []
    trap = {"x": Trap(tmp_path / "trap"), "e": KeyError("k"), "s": slice(2), "c": 1j}
    (tmp_path / "w.pt").write_bytes(pickle.dumps(trap, protocol))
    assert any(name.startswith("pathlib.") for name in foreign_names(tmp_path / "w.pt"))
    assert not (tmp_path / "trap").exists()


def test_names_told_twice_are_found_where_the_pickle_keeps_them(tmp_path: Path) -> None:
    """Protocol 4 takes texts that it wrote before from its memo."""
    content = [*map(str, range(400)), JSONDecoder, "json.decoder", JSONDecodeError, b"x" * 300]
    (tmp_path / "w.pt").write_bytes(pickle.dumps([*content, "JSONEncoder", JSONEncoder], 4))
    assert foreign_names(tmp_path / "w.pt") == [
        "json.decoder.JSONDecoder",
        "json.decoder.JSONDecodeError",
        "json.encoder.JSONEncoder",
    ]


def test_a_damaged_place_in_the_memo_takes_no_memory(tmp_path: Path) -> None:
    """Unpickling it would ask for gigabytes."""
    (tmp_path / "w.pt").write_bytes(b"\x80\x02}r\xff\xff\xff\x7fcos\nsystem\n.")
    assert foreign_names(tmp_path / "w.pt") == ["os.system"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[bool, bytes]]:
    folder = tmp_path_factory.mktemp("damaged")
    content = {"a": torch.ones(2), "b": Trap(folder / "trap")}
    return folder, {legacy: save(content, folder / "w.pt", 2, legacy) for legacy in (False, True)}


@given(st.data())
def test_damaged_files_are_read_without_an_error(
    whole: tuple[Path, dict[bool, bytes]], data: st.DataObject
) -> None:
    folder, files = whole
    content = bytearray(files[data.draw(st.booleans())])
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    (folder / "w.pt").write_bytes(content[:cut])
    assert isinstance(foreign_names(folder / "w.pt"), list)
    assert not (folder / "trap").exists()


def test_what_is_no_pickle_names_nothing(tmp_path: Path) -> None:
    for content in (b"", b"<html>", b"\x80\x02}q\x00"):
        (tmp_path / "w.pt").write_bytes(content)
        assert foreign_names(tmp_path / "w.pt") == []
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        archive.writestr("other.txt", "x")
    assert foreign_names(tmp_path / "w.zip") == []
    assert foreign_names(tmp_path / "nowhere") == []
