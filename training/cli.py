"""`regionlm train`; `regionlm.cli.main` calls it and words its errors."""

from __future__ import annotations

from collections.abc import Sequence

from regionlm.cli.parser import choose, parse_settings
from training.settings import Fit


def run_train(argv: Sequence[str], description: str) -> None:
    """Run `regionlm train fit` or `regionlm train embed`."""
    name, rest = choose(SUBCOMMANDS, argv, prog="regionlm train", description=description)
    settings = parse_settings(
        Fit, rest, prog=f"regionlm train {name}", description=SUBCOMMANDS[name]
    )
    from regionlm.extras import require

    require("train", "lightning", "torchmetrics", "pycocotools")
    if name == "embed":
        from training.run import embed

        embed(settings)
    else:
        from training.run import fit

        fit(settings)


SUBCOMMANDS = {
    "fit": "Train a prefix model and write a bundle of it.",
    "embed": "Only compute the embeddings that fit would.",
}
