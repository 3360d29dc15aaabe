"""Image features: encoders behind one interface, kept per image."""
