"""The reader study: people tell real images from synthetic ones, and rate them. Imports nothing."""
