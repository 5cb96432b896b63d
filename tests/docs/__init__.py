"""Tests of the pages for people that need more than their text."""
