"""One flow per stage, and the flows that compose them: pipeline and the command line."""
