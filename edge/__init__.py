"""The device runtime: camera, engine, judge, delivery. Never imports torch."""
