"""What turns an image into an anomaly map: the Engine protocol and its implementations."""
