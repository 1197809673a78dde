"""The verbs about encoders, for the command line: one thin function each; what is heavy is imported by its verb."""

import typer


def add(app: typer.Typer) -> None:
    """Put the verbs on the command line."""
