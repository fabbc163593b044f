"""The mini world: composed scenes of everyday things whose masks and captions are known exactly."""
