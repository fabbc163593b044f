"""What is asked of every line: which model writes the captions, and how."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from regionlm.backbones.trunk_options import TrunkOptions
from regionlm.bulk.manifest import Lines

if TYPE_CHECKING:
    import torch

    from regionlm.bulk.captions import LineCaptions


@dataclass(frozen=True)
class Request:
    """What writes the captions, and how; see `regionlm.bulk.caption_manifest`."""

    model: str
    prefix: str | None
    prompt: str | None
    offline: bool
    embedder: str
    embedder_options: dict[str, Any]
    trunk: TrunkOptions
    decoding: dict[str, Any]

    def settings(self, manifest: Lines) -> dict[str, Any]:
        """All that the captions depend on, as JSON values."""
        from regionlm.pretrained.model_digests import model_digest, option_digests

        settings = asdict(self)
        del settings["offline"]
        settings["trunk"] = self.trunk.chosen
        if not settings["trunk"]:  # as in runs begun before there was such an option
            del settings["trunk"]
        digests = {"model": model_digest(self.model), **option_digests(self.embedder_options)}
        return {**settings, "manifest": manifest.digest, "digests": digests}

    def load(self, device: str | torch.device) -> LineCaptions:
        """Load the models on a device."""
        from regionlm.auto import load_captioner
        from regionlm.bulk.captions import LineCaptions
        from regionlm.embedders.embedder_registry import make_embedder

        captioner = load_captioner(
            self.model,
            prefix=self.prefix,
            prompt=self.prompt,
            trunk=self.trunk,
            device=device,
            offline=self.offline,
        )
        embedder = make_embedder(self.embedder, captioner.backbone, **self.embedder_options)
        return LineCaptions(captioner, embedder, self.decoding)
