"""Scores of generated answers: parsers and metrics of the six question sets, from raw texts alone."""
