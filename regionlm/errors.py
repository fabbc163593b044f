"""Errors and warnings a user can cause. One line each: what was expected, found, and to do."""

from prefix_models.errors import DoubtWarning, UserError

TAKE_ANOTHER = (
    "; take a plain ViT instead, such as ViT-B-16-quickgelu/openai (regionlm models --all says"
    " which can be read)"
)
"""What to do about an architecture that can't be read: the end of a ModelError's message."""


class InputError(UserError):
    """An image, mask, box, text or option that cannot be used."""


class ModelError(UserError):
    """A model name, checkpoint, bundle or device that cannot be used."""


class NoCaptionsError(ModelError):
    """A model that embeds images and texts, where one that writes captions was asked for."""


class ModelWarning(DoubtWarning):
    """A checkpoint or image that can be read in more than one way, so results may be wrong."""
