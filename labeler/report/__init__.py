"""The report: a static site that opens from disk."""

from labeler.report.site import RunInfo, build_report

__all__ = ["RunInfo", "build_report"]
