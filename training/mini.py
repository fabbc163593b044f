"""Command line of the mini model's training: `python -m training.mini clip fit --config ...`."""

import sys

from lightning.pytorch.cli import LightningArgumentParser, LightningCLI


class _ClipCLI(LightningCLI):
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The schedule's length follows from the data's stages."""
        parser.link_arguments("data.stages", "model.stages")


def train_clip(args: list[str]) -> None:
    """Contrastive training of the mini CLIP."""
    from training.clip import CaptionData, ContrastiveClip

    _ClipCLI(ContrastiveClip, CaptionData, args=args, save_config_callback=None)


def main() -> None:
    """Dispatch to a part of the mini model."""
    parts = {"clip": train_clip}
    if len(sys.argv) < 2 or sys.argv[1] not in parts:
        sys.exit(f"usage: python -m training.mini {{{','.join(parts)}}} fit --config FILE")
    parts[sys.argv[1]](sys.argv[2:])


if __name__ == "__main__":
    main()
