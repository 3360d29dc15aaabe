"""The forms in which users want a release: Hugging Face Parquet, COCO with PNG, DICOM with segmentations."""
