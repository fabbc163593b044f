"""The command `regionlm train`, an entry point; see `regionlm.cli.added`."""

from __future__ import annotations

from collections.abc import Sequence

from regionlm.cli.added import docstring_summary
from regionlm.cli.parser import choose, parse_settings
from training.fit_settings import Fit


def run_train(argv: Sequence[str]) -> None:
    """Train a prefix model on your own regions and texts: `train fit`, `train embed`."""
    name, rest = choose(
        SUBCOMMANDS, argv, prog="regionlm train", description=docstring_summary(run_train)
    )
    settings = parse_settings(
        Fit, rest, prog=f"regionlm train {name}", description=SUBCOMMANDS[name]
    )
    from regionlm.extras import require

    require("train", "lightning", "torchmetrics", "pycocotools")
    if name == "embed":
        from training.pipeline import compute_embeddings

        compute_embeddings(settings)
    else:
        from training.pipeline import fit

        fit(settings)


SUBCOMMANDS = {
    "fit": "Train a prefix model and write it as a bundle.",
    "embed": "Only compute the embeddings that fit needs.",
}
