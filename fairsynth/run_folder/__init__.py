"""Output folders, which nobody has to trust: whose they are, what may be replaced or removed there, and no link is followed."""
