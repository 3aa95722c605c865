"""One self-contained page for the results of a run."""
