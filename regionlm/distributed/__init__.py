"""Long work on numbered items: on any number of processes, stopped and resumed at will."""
