"""A run: a task over a dataset, on any number of processes, stopped and resumed at will."""
