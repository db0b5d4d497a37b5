"""preview.jpg and report.html: what was made, in one self-contained page."""

from sparse3d.report.page import write_report

__all__ = ["write_report"]
