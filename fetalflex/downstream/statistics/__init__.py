"""From predictions to verdicts: metrics, bootstrap, correction, the report."""
