"""One module per verb: the only place that decides paths and composes stages."""
