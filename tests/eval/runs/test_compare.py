"""Finished runs as tables and pictures."""

import copy
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from eval.runs.compare import Finished, compare, group_runs, read_runs
from regionlm.cli.main import main
from regionlm.datasets.data_errors import DataError

RESULT = {
    "metrics": {"acc@1": 0.5, "acc@5": 0.75},
    "paper": {},
    "counts": {"images": 4, "queries": 9, "bad_images": 0},
    "settings": {
        "task": "classes",
        "data": {"name": "mini", "root": None, "split": "test", "options": {}},
        "model": {"name": "mini", "pretrained": None, "prefix": None, "offline": False},
        "embedder": {"name": "maskinversion", "options": {"lr": 0.5}},
        "masks": "exact",
        "image_count": 4,
    },
}


def finished(folder="run", paper=None, metrics=None, **settings):
    result = copy.deepcopy(RESULT)
    for name, value in settings.items():
        *path, last = name.split("__")
        holder = result["settings"]
        for part in path:
            holder = holder[part]
        holder[last] = value
    result["paper"] = paper or {}
    result["metrics"].update(metrics or {})
    return Finished(folder, result)


def save(run, folder):
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(run.result))
    return folder


def steps(values, paper=None):
    return [
        finished(f"steps-{n}", embedder__options={"lr": 0.5, "steps": n}, paper=paper)
        for n in values
    ]


def table_of(text):
    return [line for line in text.splitlines() if line.startswith("|")]


def test_only_what_varies_is_a_column():
    text = compare(group_runs(steps([0, 10])))
    assert table_of(text) == [
        "| steps | acc@1 | acc@5 |",
        "|---|---|---|",
        "| 0 | 50.0 | 75.0 |",
        "| 10 | 50.0 | 75.0 |",
    ]
    assert "Fixed: split test, model mini, embedder maskinversion, lr 0.5, masks exact" in text
    assert "brackets" not in text


def test_counts_are_shown_where_there_is_something_to_count():
    def tables(*replaced):
        runs = steps([0, 10])
        for run, count in zip(runs, replaced, strict=True):
            run.result["counts"].update(dropped=3, replaced_masks=count)
        return compare(group_runs(runs))

    assert "queries 9, dropped 3." in tables(0, 0)
    rows = table_of(tables(0, 2))
    assert rows[0].startswith("| steps | replaced_masks | acc@1") and rows[2].startswith(
        "| 0 | 0 |"
    )


def test_a_table_for_each_task_and_dataset():
    runs = [
        finished(task=task, embedder__name=name, embedder__options={}, metrics=own)
        for task, own in (("classes", {}), ("referring", {"miou": 0.1}))
        for name in ("cls", "crop")
    ]
    runs.append(finished(data__name="coco"))
    text = compare(group_runs(runs))
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## classes on mini", "## referring on mini", "## classes on coco",
    ]  # fmt: skip
    assert "| embedder | acc@1 | acc@5 |\n" in text
    assert "| embedder | acc@1 | acc@5 | miou |\n" in text
    assert text.count("\n| crop |") == 2 and text.count("\n| maskinversion |") == 1


def test_the_papers_figure_stands_in_brackets():
    text = compare(group_runs([finished(paper={"acc@1": 0.854})]))
    assert "| 50.0 (85.4) | 75.0 |" in text and "In brackets: the paper's figure." in text


def test_a_missing_figure_and_a_bar_in_a_setting_keep_the_table_whole():
    runs = [finished(template="a|{}", metrics={"acc@5": None}), finished(template="{}")]
    text = compare(group_runs(runs))
    assert "| a\\|{} |  |" in text and "| {} | 75.0 |" in text
    assert "The same in all: acc@1 50.0." in text


def test_runs_that_nothing_tells_apart_are_named_by_folder():
    text = compare(group_runs([finished("first"), finished("second")]))
    assert "| run | acc@1" in text and "| second |" in text


def test_two_settings_of_one_short_name_keep_their_whole_names():
    runs = [
        finished(embedder__options={"size": size}, data__options={"size": size})
        for size in (64, 96)
    ]
    assert "| data.options.size | embedder.options.size |" in compare(group_runs(runs))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["classes", "referring"]),
            st.dictionaries(st.sampled_from(["lr", "alpha", "size"]), st.sampled_from([0, 1, "x"])),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_every_run_has_a_row_of_its_own(parts):
    runs = [
        finished(f"run{i}", task=task, embedder__options=options)
        for i, (task, options) in enumerate(parts)
    ]
    for group in group_runs(runs):
        rows = table_of(group.markdown())[2:]
        assert len(rows) == len(group.runs) and len(set(rows)) == len(rows)
        figures = len(group.metrics) - len(group.same_metrics)
        assert {row.count("|") for row in rows} == {1 + len(group.columns) + figures}


def test_report_reads_runs_and_sweeps_and_writes_files(tmp_path, capsys):
    runs = [save(run, tmp_path / run.name) for run in steps([0, 1, 2, 4])]
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    parts = {run.name: run.result for run in steps([8, 16], paper={"acc@1": 0.8})}
    (sweep / "result.json").write_text(json.dumps({"runs": parts}))
    assert [run.name for run in read_runs([sweep])] == [f"{sweep}/steps-8", f"{sweep}/steps-16"]
    assert main(["report", *map(str, runs), str(sweep)]) == 0
    printed = capsys.readouterr().out
    assert len(table_of(printed)) == 2 + 6
    table, plot = tmp_path / "table.md", tmp_path / "plot.png"
    files = ["--output", str(table), "--plot", str(plot)]
    assert main(["report", *map(str, runs), str(sweep), *files]) == 0
    assert table.read_text() == printed and capsys.readouterr().out == ""
    with Image.open(plot) as picture:
        assert picture.format == "PNG"


def _colours(groups, path):
    from eval.runs.plots import save_plot

    save_plot(path, groups)
    with Image.open(path) as picture:
        return picture.size, np.unique(np.array(picture.convert("RGB")).reshape(-1, 3), axis=0)


def test_curves_have_the_papers_as_a_second_line(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    drawn = []
    plot = Axes.plot
    monkeypatch.setattr(
        Axes, "plot", lambda self, x, y, **k: drawn.append((x, y)) or plot(self, x, y, **k)
    )
    runs = steps([10, 0, 5])
    runs[0].result["paper"]["acc@1"] = 0.854
    _colours(group_runs(runs), tmp_path / "one.png")
    ours, theirs = drawn
    assert ours == ([0, 5, 10], [50, 50, 50])
    assert theirs[1][2] == pytest.approx(85.4) and np.isnan(theirs[1][:2]).all()
    drawn.clear()
    both = [
        *steps([0, 5]),
        *(finished(embedder__name="x", embedder__options={"steps": n}) for n in (0, 5)),
    ]
    _colours(group_runs(both), tmp_path / "two.png")
    assert [x for x, _ in drawn] == [[0, 5]] * 4  # two metrics, two embedders


def test_bars_for_settings_that_are_no_numbers(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    drawn = []
    barh = Axes.barh
    monkeypatch.setattr(
        Axes, "barh", lambda self, y, w, **k: drawn.append(w) or barh(self, y, w, **k)
    )
    names = ["exact", "box"]
    runs = [finished(masks=name, metrics={"acc@1": 0.1}) for name in names]
    runs[1].result["metrics"]["acc@5"] = None  # as of a run without queries
    _colours(group_runs(runs), tmp_path / "plain.png")
    assert drawn[0] == [10, 10] and drawn[1][0] == 75 and np.isnan(drawn[1][1])
    runs[0].result["paper"]["acc@1"] = 0.447
    drawn.clear()
    _colours(group_runs(runs), tmp_path / "paper.png")
    assert len(drawn) == 2 and drawn[1][0] == pytest.approx(44.7)  # the metric that the paper has


def test_what_is_no_share_is_not_called_percent(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    named = []
    for axis in ("set_xlabel", "set_ylabel"):
        monkeypatch.setattr(Axes, axis, lambda self, text: named.append((self.get_title(), text)))
    captions = {"micro": 0.9, "cider": 4.5, "clipscore": 1.5}
    for runs in ([finished()], steps([0, 5])):
        named.clear()
        for run in runs:
            run.result["metrics"] = captions
        _colours(group_runs(runs), tmp_path / "plot.png")
        units = {title.split(": ")[1]: text for title, text in named if text != "steps"}
        assert units == {"micro": "%", "cider": "times 100", "clipscore": "times 100"}


def test_a_row_of_panels_for_each_task(tmp_path):
    size_of_one, _ = _colours(group_runs([finished()]), tmp_path / "one.png")
    two = [finished(), finished(task="referring")]
    size_of_two, colours = _colours(group_runs(two), tmp_path / "two.png")
    assert size_of_two == (size_of_one[0], 2 * size_of_one[1])
    assert len(colours) > 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("{", "expected the JSON of a finished run"),
        ("[]", "expected the JSON of a finished run"),
        ('{"runs": {}}', "no runs in it"),
        ('{"runs": {"a": {}}}', "expected the JSON of a finished run"),
        (json.dumps({**RESULT, "settings": {"task": "classes"}}), "expected the JSON"),
    ],
)
def test_what_is_no_finished_run(content, message, tmp_path, capsys):
    if content is not None:
        (tmp_path / "result.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_runs([tmp_path])
    assert main(["report", str(tmp_path), "--output", str(tmp_path / "table.md")]) == 2
    said = capsys.readouterr().err
    assert "result.json" in said and said.count("\n") == 1
    assert not (tmp_path / "table.md").exists()


@pytest.mark.parametrize("option", [["--plot", "x.jpg"], ["--output", "nowhere/x.md"]])
def test_outputs_that_cannot_be_written(option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save(finished(), tmp_path / "run")
    assert main(["report", "run", *option]) == 2
    assert option[1] in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
