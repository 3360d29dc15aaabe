"""The page and the pictures that a person looks at first."""
