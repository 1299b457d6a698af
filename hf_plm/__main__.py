"""`python -m hf_plm`, as the command `hf-plm`."""

from .command_line import main

main()
