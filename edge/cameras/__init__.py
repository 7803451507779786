"""Where frames come from: the Camera protocol and its implementations."""
