"""The folder of a run: where things lie, how the run stands, and what leaves it or is removed from it."""
