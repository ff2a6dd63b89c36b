"""The whole analyzer in one process: a source, or one's own capture, goes in; labels come out."""
