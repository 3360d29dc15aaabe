"""One training: the loop, and what it says of the test images."""
