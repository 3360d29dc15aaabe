"""De-identification: which header values and which pixels may leave a hospital."""
