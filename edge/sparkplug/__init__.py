"""Stations as a Sparkplug B edge node: a process of its own, which listens to what they publish; docs/sparkplug.md."""
