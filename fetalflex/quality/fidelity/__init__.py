"""How far synthetic images lie from real ones, and how varied they are."""
