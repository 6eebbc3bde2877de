"""Encoders, objectives, ways to adapt and baselines, compared on the same stays."""
