"""`python -m kalshidb` is the `kalshidb` command."""

from kalshidb.cli import main

main()
