"""The journal of a run, and how its items are shared out."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionlm.distributed.journal import SETTINGS, Journal
from regionlm.distributed.predict_module import Share
from regionlm.errors import InputError


def test_answers_come_back_in_order_whoever_wrote_them(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run", {"seed": 1})
    for process, numbers in ((1, [5, 1]), (0, [4, 0]), (1, [3])):
        writer = journal.writer(process)
        for number in numbers:
            writer.write(number, {"text": f"é {number}"})
        writer.close()
    assert journal.done().tolist() == [0, 1, 3, 4, 5]
    assert list(journal.answers()) == [(n, {"text": f"é {n}"}) for n in (0, 1, 3, 4, 5)]


@given(cut=st.integers(1, 60))
def test_half_a_line_counts_for_nothing(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    journal = Journal(tmp_path_factory.mktemp("run"), {})
    writer = journal.writer(0)
    writer.write(0, {"text": "whole"})
    before = (journal.folder / "answers-00000.jsonl").stat().st_size
    writer.write(1, {"text": "cut somewhere", "more": [1, 2, {"a": "b"}]})
    writer.close()
    with (journal.folder / "answers-00000.jsonl").open("r+b") as file:
        file.truncate(max(before, file.seek(0, 2) - 1 - cut))
    assert journal.done().tolist() == [0]
    writer = journal.writer(0)
    writer.write(1, {"text": "again"})
    writer.close()
    assert list(journal.answers()) == [(0, {"text": "whole"}), (1, {"text": "again"})]


def test_names_that_are_not_utf_8_can_be_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run", {})
    writer = journal.writer(0)
    writer.write(0, {"image": "\udcff.png"})
    writer.close()
    assert list(journal.answers()) == [(0, {"image": "\udcff.png"})]


def test_bad_items_are_done_again_and_answered_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run", {}, lambda answer: "error" in answer)

    def write(process: int, *answers: tuple[int, dict]) -> None:
        writer = journal.writer(process)
        for number, answer in answers:
            writer.write(number, answer)
        writer.close()

    write(1, (1, {"error": "gone"}), (3, {"text": "three"}))
    write(0, (0, {"text": "zero"}), (2, {"error": "cut short"}))
    assert journal.done().tolist() == [0, 3]
    assert [number for number, _ in journal.answers()] == [0, 1, 2, 3]
    journal.ask_to_stop()
    journal.start_again()
    assert not journal.stopped
    assert [number for number, _ in journal.answers()] == [0, 3]
    write(0, (1, {"text": "one"}), (2, {"error": "another reason"}))
    assert dict(journal.answers())[2] == {"error": "another reason"}
    assert journal.done().tolist() == [0, 1, 3]


def test_a_run_of_bad_items_only_is_discarded(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run", {}, lambda answer: "error" in answer)
    writer = journal.writer(0)
    writer.write(0, {"error": "gone"})
    writer.close()
    journal.discard_if_empty()
    assert not journal.folder.exists()


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    Journal(tmp_path / "run", {"model": "mini", "size": (3, 4)})
    Journal(tmp_path / "run", {"size": [3, 4], "model": "mini"})
    with pytest.raises(InputError, match=r"other settings \(model was mini, is b; new was None"):
        Journal(tmp_path / "run", {"model": "b", "size": (3, 4), "new": 1})


def test_other_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match=r"other files such as letter\.txt"):
        Journal(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_what_another_process_is_about_to_write_is_no_other_file(tmp_path: Path) -> None:
    (tmp_path / f".{SETTINGS}.123.part").write_text('{"se')
    (tmp_path / "answers-00001.jsonl").touch()
    assert Journal(tmp_path, {"seed": 1}).done().tolist() == []


def test_processes_may_all_start_at_once(tmp_path: Path) -> None:
    """Together at the barrier of a file, many times over."""
    code = (
        "import sys, time; from pathlib import Path\n"
        "from regionlm.distributed.journal import Journal\n"
        "root = Path(sys.argv[1]); (root / f'ready-{sys.argv[2]}').touch()\n"
        "while not (root / 'go').exists(): pass\n"
        "for n in range(200): Journal(root / f'run-{n}', {'seed': 1})"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen([*command, str(n)], cwd=Path(__file__).parents[3]) for n in "abc"]
    while len(list(tmp_path.glob("ready-*"))) < 3:
        assert all(process.poll() is None for process in processes)
    (tmp_path / "go").touch()
    assert [process.wait() for process in processes] == [0, 0, 0]
    found = [json.loads(path.read_text()) for path in tmp_path.glob(f"run-*/{SETTINGS}")]
    assert found == [{"seed": 1}] * 200


def test_only_an_empty_run_is_discarded(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run", {})
    journal.writer(0).close()
    journal.ask_to_stop()
    assert journal.stopped
    journal.discard_if_empty()
    assert not journal.folder.exists()
    journal = Journal(tmp_path / "run", {})
    writer = journal.writer(0)
    writer.write(0, {})
    writer.close()
    journal.discard_if_empty()
    assert journal.done().tolist() == [0]


def test_a_disk_that_is_full_is_said_in_one_line(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    (tmp_path / "answers-00000.jsonl").symlink_to("/dev/full")
    writer = Journal(tmp_path, {}).writer(0)
    with pytest.raises(InputError, match=r"answers-00000\.jsonl cannot be written: No space left"):
        writer.write(0, {"text": "x"})
    writer.close()


@given(size=st.integers(0, 50), world=st.integers(1, 7), done=st.sets(st.integers(0, 49)))
def test_shares_hold_every_open_item_once(size: int, world: int, done: set[int]) -> None:
    finished = np.array(sorted(done), np.int64)
    shares = [Share(size, finished, rank, world) for rank in range(world)]
    assert sorted(n for share in shares for n in share) == sorted(set(range(size)) - done)
    assert all(len(share) == len(list(share)) for share in shares)


def test_a_share_ends_when_asked_to() -> None:
    asked = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 3

    assert list(Share(9, np.array([0]), 0, 1, stop)) == [1, 2, 3]
