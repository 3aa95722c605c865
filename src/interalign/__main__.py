"""`python -m interalign` is the command `interalign`."""

from interalign.cli import main

main()
