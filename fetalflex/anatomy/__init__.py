"""Planes, structures, layouts in mm, biometry by gestational age, and anomalies as layout edits."""
