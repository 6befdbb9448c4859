"""A domain of its own, as somebody else would add one: points in the plane, near a circle."""
