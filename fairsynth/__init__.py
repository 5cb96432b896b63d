"""fairsynth: from a biased image dataset to a fair classifier and the balanced data behind it."""

__version__ = "0.1.0"
