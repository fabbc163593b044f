"""Errors a user can cause. One line each: what was expected, what was found, what to do."""


class InputError(ValueError):
    """An image, mask, box, text or option that cannot be used."""


class ModelError(ValueError):
    """A model name, checkpoint, bundle or device that cannot be used."""
