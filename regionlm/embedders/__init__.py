"""Region -> vector of the joint space."""

from regionlm.embedders.maskinversion import Localized, MaskInversion

__all__ = ["Localized", "MaskInversion"]
