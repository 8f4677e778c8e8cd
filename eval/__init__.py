"""Suites that measure the labeller itself: ``labeler eval SUITE``."""
