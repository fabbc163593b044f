"""A Ray cluster for all tests of a process, and what Ray has started."""

import os
from collections.abc import Iterator
from glob import glob
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CPUS = 2
MIB = 1 << 20
NICENESS = "RAY_worker_niceness"
"""By default Ray's workers let everything else go first; next to other tests they hardly run."""


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Two CPUs, whose workers find this checkout and compute with one thread each."""
    import ray

    with pytest.MonkeyPatch.context() as patch:  # Ray's processes inherit it
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv(NICENESS, "0")
        ray.init(
            "local",
            num_cpus=CPUS,
            object_store_memory=128 * MIB,
            include_dashboard=False,
            log_to_driver=False,
        )
    yield
    ray.shutdown()


def started(name: str, by: int | None = None) -> list[int]:
    """Processes with a name in their command line that descend from one; by default, this one."""
    family = [os.getpid() if by is None else by]
    for one in family:
        for file in glob(f"/proc/{one}/task/*/children"):
            family += map(int, _contents(file).split())
    return [one for one in family[1:] if name in _contents(f"/proc/{one}/cmdline")]


def _contents(file: str) -> str:
    """What the system says of a process; nothing if it has ended meanwhile."""
    try:
        return Path(file).read_text()
    except OSError:
        return ""
