"""streamfuse: looks and listens at once, and says ten times a second what scene and emotion it sees."""
