"""The page of the quality of a release: `reports/quality.html`."""
