"""A GenICam camera without hardware, and the rendered parts that pass in front of it."""
