"""The face view: find a face, follow it, and cut it out steadily."""
