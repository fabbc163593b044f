"""Every file in configs/eval is run, on a tiny dataset in the real format and the bundled model."""

import json
from pathlib import Path

import pytest
import yaml

from regionlm.cli.main import main

CONFIGS = Path(__file__).parents[2] / "configs" / "eval"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def _fixture(build, name):
    if name in ("refcoco", "refcoco+"):
        return build.refcoco(name=name)
    if name == "context59":
        return build.context("png", [18, 308, 458])
    return getattr(build, {"voc2012": "voc"}.get(name, name))()


@pytest.mark.filterwarnings("ignore::regionlm.datasets.data_errors.DataWarning")
@pytest.mark.parametrize("name", NAMES)
def test_config_runs(name, build, tiny_sam, tmp_path, capsys):
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    config["output"] = str(tmp_path / "out")
    config["trainer"] = {"accelerator": "cpu", "progress": False}
    config["limit"] = 2
    config["data"]["workers"] = 0
    if config["data"]["name"] != "mini":
        config["data"]["root"] = str(_fixture(build, config["data"]["name"]))
        config["model"] = {"name": "mini"}
        if "judge" in config:
            config["judge"] = {"name": "mini"}
        config["embedder"].get("options", {}).update(size=64, steps=2)
    if "sam" in config:
        config["sam"] = {"name": str(tiny_sam), "offline": True}
    config["sweep"] = {
        key: values if key == "masks" or name == "mini" else values[:2]
        for key, values in config.get("sweep", {}).items()
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    assert main(["eval", "--config", str(tmp_path / "run.yaml")]) == 0
    results = [path.with_name("result.json") for path in (tmp_path / "out").rglob("run.json")]
    wanted = 1
    for values in config["sweep"].values():
        wanted *= len(values)
    assert len(results) == wanted
    assert all(json.loads(path.read_text())["counts"]["queries"] for path in results)
    assert "acc@1" in (said := capsys.readouterr().out) or "micro" in said
