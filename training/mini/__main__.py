"""Make the bundled model step by step: `python -m training.mini STEP --config FILE`."""

import sys

from regionlm.threads import limit_threads, sleep_while_waiting

STEPS = ("clip", "export", "decoder", "adapt", "bundle", "examples")


def main() -> None:
    """Run one step with its own options; `clip` is a LightningCLI, the others are functions."""
    if len(sys.argv) < 2 or sys.argv[1] not in STEPS:
        sys.exit(f"usage: python -m training.mini {{{','.join(STEPS)}}} [options | --config FILE]")
    sleep_while_waiting()
    limit_threads()
    step, args = sys.argv[1], sys.argv[2:]
    if step == "clip":
        _clip(args)
        return
    from jsonargparse import auto_cli

    from training.mini import assemble, decoder, examples, export

    functions = {
        "export": export.export_clip,
        "decoder": decoder.train_decoder,
        "adapt": decoder.adapt_decoder,
        "bundle": assemble.make_bundle,
        "examples": examples.draw_examples,
    }
    auto_cli(functions[step], args=args, as_positional=False)


def _clip(args: list[str]) -> None:
    from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

    from training.mini.clip import CaptionData, ContrastiveClipModule

    class ClipCLI(LightningCLI):
        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            parser.link_arguments("data.stages", "model.stages")

    ClipCLI(ContrastiveClipModule, CaptionData, args=args, save_config_callback=None)


if __name__ == "__main__":
    main()
