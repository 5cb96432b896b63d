"""fairsynth: from a biased image dataset to a fair classifier and the balanced data behind it."""

from fairsynth.version import __version__ as __version__
