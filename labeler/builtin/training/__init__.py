"""Scripts that made the weights in `labeler/builtin/weights`."""
