"""A comparison as files that people and programs read."""

from attnbench.report.tables import markdown, write

__all__ = ["markdown", "write"]
