"""Tests of fairsynth.engine.lifetime."""
