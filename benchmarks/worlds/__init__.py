"""Biased datasets unlike the demo and unlike each other, to settle defaults on and to judge them by."""
