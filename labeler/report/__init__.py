"""The report: a static site that opens from disk, and the same pages for a server."""

from labeler.report.info import ListSource, RunInfo, Source
from labeler.report.site import build_report, is_report

__all__ = ["ListSource", "RunInfo", "Source", "build_report", "is_report"]
