"""Hold regionlm's MaskInversion against the authors' PyPI packages: same vectors, and how fast.

    python benchmarks/published_maskinversion.py                      # equality, the whole matrix
    python benchmarks/published_maskinversion.py --quick              # equality, small rows only
    python benchmarks/published_maskinversion.py --time               # speed and memory
    python benchmarks/published_maskinversion.py --write-references   # renew the tests' files

The first run makes a virtual environment for the authors' packages (see ``--folder``) and installs
them with pip. Their results are kept in the same folder, so a stopped run resumes;
ours are computed anew each time. Weights, image and masks come from seeds: nothing else is
downloaded.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from published.cases import Row, fingerprint, matrix
from published.compare import compare_rows, run_side
from published.environment import authors_python, default_folder
from published.references import FOLDER, reference_rows, write_references
from published.timing import Setting, time_both

MODELS = ("ViT-B-32", "ViT-B-16", "ViT-L-14")


def main() -> int:
    """Run what the options ask for; 1 if a row is out of bounds."""
    options = parse_options()
    python = authors_python(options.env or options.folder / "venv")
    results = options.folder / f"authors-{fingerprint():08x}"
    if options.time:
        masks = tuple(options.masks or (1, 5, 10))
        model, size = (options.models or ["ViT-B-16"])[0], (options.sizes or [448])[0]
        time_both(python, Setting(model, size, masks, options.repeats, options.threads))
        return 0
    if options.write_references:
        compute_authors(python, reference_rows(), results, options.threads)
        write_references(results)
        print(f"wrote {FOLDER}", file=sys.stderr)
        return 0
    with tempfile.TemporaryDirectory() as ours:

        def compute(rows: list[Row]) -> None:
            compute_authors(python, rows, results, options.threads)
            run_side(Path(sys.executable), "our_side", rows, Path(ours), options.threads)

        return int(compare_rows(chosen_rows(options), results, Path(ours), compute) > 0)


def chosen_rows(options: argparse.Namespace) -> list[Row]:
    """The matrix: three models, two sizes, 1, 3 and 7 masks, alpha 0 and 5, lr 0.1 and 0.5."""
    if options.quick:
        small = matrix(["tiny"], [64], [3], options.dtype)
        return small + matrix(["ViT-B-32"], [224], [1, 3], options.dtype)
    sizes, masks = options.sizes or (224, 448), options.masks or (1, 3, 7)
    return matrix(options.models or MODELS, sizes, masks, options.dtype)


def compute_authors(python: Path, rows: list[Row], results: Path, threads: int) -> None:
    """Fill in the rows that no earlier run left."""
    missing = [row for row in rows if not (results / f"{row.key}.npz").exists()]
    run_side(python, "authors_side", missing, results, threads)


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    task = parser.add_mutually_exclusive_group()
    task.add_argument("--time", action="store_true", help="time both sides in turns")
    task.add_argument("--write-references", action="store_true", help=f"write {FOLDER.name}/*.npz")
    task.add_argument("--quick", action="store_true", help="12 cheap rows")
    parser.add_argument("--models", nargs="+", help="any of the names in published/cases.py")
    parser.add_argument("--sizes", nargs="+", type=int, help="square input sizes, pixels")
    parser.add_argument("--masks", nargs="+", type=int, choices=range(1, 11), metavar="1..10")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--repeats", type=int, default=3, help="of each timed call")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="on both sides")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="[%(default)s]")
    parser.add_argument("--env", type=Path, help="the virtual environment [FOLDER/venv]")
    options = parser.parse_args()
    options.folder = options.folder.resolve()  # workers run in another directory
    return options


if __name__ == "__main__":
    sys.exit(main())
