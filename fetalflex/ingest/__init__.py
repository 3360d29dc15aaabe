"""From raw files to frames: inventory, buckets of files, duplicates."""
