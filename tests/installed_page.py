"""A script that runs the code of a document in the current folder, as a reader of an installed molrl does.

`python installed_page.py SITE` reads JSON from stdin: commands, each a list of arguments, and blocks of Python code.
molrl must be that of the folder SITE, which PYTHONPATH names, and the network is out of reach.
"""

import json
import sys
from pathlib import Path


def main(site: Path) -> None:
    """Run the commands, then the blocks, from top to bottom."""
    from conftest import refuse_the_network

    sys.addaudithook(refuse_the_network)
    sys.path[0] = ""  # the reader's folder in the place of that of this script
    import molrl
    from molrl.cli import main as command_line

    if not Path(molrl.__file__).is_relative_to(site):
        sys.exit(f"molrl is that of {molrl.__file__}, not of {site}")
    page = json.load(sys.stdin)
    for arguments in page["commands"]:
        if (code := command_line(arguments)) not in (0, 4):  # 4: some records could not be scored
            sys.exit(f"exit code {code}: molrl {' '.join(arguments)}")
    state: dict[str, object] = {"__name__": "page"}
    for block in page["blocks"]:
        exec(compile(block, "page", "exec"), state)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
