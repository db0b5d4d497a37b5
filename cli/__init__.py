"""The `sparse3d` command. Nothing heavy is imported until a command runs."""

from sparse3d.cli.app import app, main

__all__ = ["app", "main"]
