"""Each stage and the whole line, measured on this machine: the verb `bench`."""
