"""`regionlm train`; `regionlm.cli` calls it and words its errors."""

from __future__ import annotations

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from regionlm.cli_flags import spell_out
from regionlm.cli_values import add_settings
from training.settings import Fit


def run_train(parser: ArgumentParser, argv: Sequence[str]) -> None:
    """Run `regionlm train fit` or `regionlm train embed`."""
    subcommands = parser.add_subcommands()
    for name, summary in SUBCOMMANDS.items():
        command = type(parser)(prog=f"regionlm train {name}", description=summary)
        command.add_argument("--config", action="config", help="YAML file with any of these.")
        add_settings(command, Fit)
        subcommands.add_subcommand(name, command, help=summary)
    options = parser.parse_args(spell_out(argv, Fit))
    name = options.subcommand
    options = parser.instantiate(options)[name]
    options.pop("config", None)
    settings = Fit(**options)
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
