"""Long runs over numbered items, on any number of processes, which can be stopped and resumed."""
