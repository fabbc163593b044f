"""Errors and warnings a user can cause. One line each: what was expected, found, and to do."""


class InputError(ValueError):
    """An image, mask, box, text or option that cannot be used."""


class ModelError(ValueError):
    """A model name, checkpoint, bundle or device that cannot be used."""


class ModelWarning(UserWarning):
    """A checkpoint or picture that can be read in more than one way, so results may be wrong."""
