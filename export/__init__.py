"""From a trained network to the files a station loads."""
