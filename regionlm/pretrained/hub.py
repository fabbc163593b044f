"""Upload bundles to the Hugging Face hub and download them, through huggingface_hub's mixin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelHubMixin

from prefix_models.errors import UserError, first_line, refusing
from regionlm.backbones.published_weights import not_found
from regionlm.errors import InputError, ModelError
from regionlm.pretrained.sources import HUB_OPTIONS, check_hub_options, is_hub_id, read_parts

if TYPE_CHECKING:
    import torch
    from typing_extensions import Self


class BundleHubMixin(ModelHubMixin):
    """``ModelHubMixin`` for a class whose arguments are the parts of a bundle.

    What differs from the mixin's own: models have more names than folders and hub ids; of several
    formats of one model's weights only one is downloaded; errors are ours, one line each.
    """

    @classmethod
    def from_pretrained(  # type: ignore[override]  # the mixin knows one kind of name
        cls,
        source: str | Path = "mini",
        *,
        prefix: str | None = None,
        device: str | torch.device = "auto",
        offline: bool = False,
        **hub: Any,
    ) -> Self:
        """Load a bundle, as an instance of the class that this is called on.

        Args:
            source: ``"mini"`` (ships with the package), a preset of
                ``regionlm.pretrained.presets``, a folder that ``save_pretrained`` wrote,
                or a Hugging Face hub id of one.
            prefix: which of the prefix model's prefixes; None takes the bundle's default.
            device: ``"auto"`` takes CUDA, then MPS, then the CPU.
            offline: only use files on this machine.
            **hub: for a hub id, ``revision`` (branch, tag or commit), ``token``, ``cache_dir`` and
                ``force_download``, as huggingface_hub takes them.

        Raises:
            ModelError, PrefixModelError: unknown name, or missing, damaged or mismatched files.
            InputError: an unknown option, or one of the hub for a model that is not there.
        """
        check_hub_options(source, hub, "source, prefix, device, offline")
        if not is_hub_id(source):
            return cls(**read_parts(source, prefix=prefix, device=device, offline=offline))
        try:
            return super().from_pretrained(
                source, local_files_only=offline, prefix=prefix, device=device, **hub
            )
        except UserError:
            raise
        except Exception as error:  # the hub's and the network's errors have no common type
            raise not_found(str(source), offline, error, hub.get("revision")) from error

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        local_files_only: bool,
        prefix: str | None,
        device: str | torch.device,
        **more: Any,
    ) -> Self:
        # more: the hub's options, and those values of config.json that are arguments of the class;
        # the bundle's reader gets the latter by itself.
        hub = {name: more[name] for name in HUB_OPTIONS}
        return cls(
            **read_parts(model_id, prefix=prefix, device=device, offline=local_files_only, hub=hub)
        )

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = False,
        token: str | None = None,
        commit_message: str = "Upload regionlm bundle",
        **options: Any,
    ) -> str:
        """Upload a bundle, as `save_pretrained` writes it, to the Hugging Face hub.

        Args:
            repo_id: ``user/name``; made if there is none.
            private: whether a new repository is.
            token: of a user who may write there; by default that of ``hf auth login``.
            commit_message: of the upload.
            **options: ``branch``, ``create_pr`` and the patterns of huggingface_hub's
                ``ModelHubMixin.push_to_hub``.

        Returns:
            Address of the upload.

        Raises:
            InputError, ModelError: no hub id, not logged in, no network, or the hub refuses.
        """
        check_access(repo_id, token)
        try:
            done = super().push_to_hub(
                repo_id, private=private, token=token, commit_message=commit_message, **options
            )
        except UserError:
            raise
        except Exception as error:  # as above
            raise ModelError(
                f"cannot push to {repo_id}: {type(error).__name__} {first_line(error)[:200]}"
            ) from error
        return str(done)


def check_access(repo_id: str, token: str | None = None) -> None:
    """Raise now what an upload would raise after hours of training.

    Raises:
        InputError: the id is not valid. ModelError: not logged in, or the hub is disabled.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.utils import validate_repo_id

    with refusing(InputError, "push_to_hub", ValueError):
        validate_repo_id(repo_id)
    if constants.HF_HUB_OFFLINE:
        raise ModelError(f"cannot push to {repo_id}: HF_HUB_OFFLINE is set; unset it")
    if (token or get_token()) is None:
        raise ModelError(
            f"cannot push to {repo_id}: you are not logged in; run `hf auth login`, or set HF_TOKEN"
        )
