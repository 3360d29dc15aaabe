"""The networks: layout encoder, pre-alignment, denoiser; and their checkpoints."""
