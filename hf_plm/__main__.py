"""Makes `python -m hf_plm` the same as the command `hf-plm`."""

from .command_line import main

main()
