"""A run's report and a JSON API over HTTP, from the catalogue as it is now. Needs the extra ``serve``."""

from labeler.serve.server import serve

__all__ = ["serve"]
