"""What a prefix model says of weights, settings or inputs that it cannot use as they should be."""


class PrefixModelError(ValueError):
    """Message is one line: what was expected, what was found, what to do."""


class PrefixModelWarning(UserWarning):
    """A language model that can be used, but not as it should be; one line, as in errors."""
