"""What pages for people share: who may ask, what may be sent, how they are served. Imports nothing."""
