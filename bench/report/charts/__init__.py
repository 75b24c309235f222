"""The charts of the HTML report: each takes a run and gives one SVG, or nothing where the run has no data for it."""
