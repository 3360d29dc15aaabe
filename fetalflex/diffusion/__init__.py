"""The objective, training, solvers, two-stage sampling and repaint."""
