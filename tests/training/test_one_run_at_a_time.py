"""A second training in one output folder is refused while the first one runs."""

import pytest

from regionlm.errors import InputError
from training.training_folder import TrainingFolder


def test_a_second_run_is_refused_and_the_folder_is_free_afterwards(tmp_path):
    first = TrainingFolder(tmp_path / "run", {"seed": 0})
    with first.held():
        second = TrainingFolder(tmp_path / "run", {"seed": 0})  # as the first one's other processes
        refused = pytest.raises(InputError, match=r"another run is using it \(process \d+ on ")
        with refused, second.held():
            pass
        first.curve.write_text("")
    with second.held():
        assert second.curve.exists()


def test_a_folder_that_nothing_was_written_to_is_removed(tmp_path):
    folder = TrainingFolder(tmp_path / "run", {"seed": 0})
    with folder.held():
        folder.discard_if_unused()
    assert not folder.folder.exists()


def test_other_processes_of_a_run_share_its_folder(tmp_path, monkeypatch):
    with TrainingFolder(tmp_path / "run", {}).held():
        monkeypatch.setattr("training.training_folder.is_first_process", lambda: False)
        with TrainingFolder(tmp_path / "run", {}).held():
            pass
