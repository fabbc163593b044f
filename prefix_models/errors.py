"""The error a prefix model raises for weights, settings or inputs it cannot use."""


class PrefixModelError(ValueError):
    """Message is one line: what was expected, what was found, what to do."""
