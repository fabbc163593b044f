"""From points to the region that they mark: by colour, or with a Segment Anything model."""
