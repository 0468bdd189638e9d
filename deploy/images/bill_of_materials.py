"""Write the image's bill of materials, as CycloneDX: every Python package that the running interpreter has.

    /opt/venv/bin/python deploy/images/bill_of_materials.py > sbom.json

Names and versions are those of the hashed lock, since nothing else was installed.
"""

import json
import sys
from collections.abc import Iterator
from importlib import metadata

_LICENCE = "License :: OSI Approved :: "


def bill() -> dict[str, object]:
    """Return the document."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": "order-pipeline"}},
        "components": sorted(_components(), key=lambda each: str(each["purl"])),
    }


def _components() -> Iterator[dict[str, object]]:
    for package in metadata.distributions():
        name = package.metadata["Name"].lower().replace("_", "-")
        classifiers = package.metadata.get_all("Classifier") or ()
        said = package.metadata.get_all("License-Expression") or [
            each.removeprefix(_LICENCE) for each in classifiers if each.startswith(_LICENCE)
        ]
        yield {
            "type": "library",
            "name": name,
            "version": package.version,
            "purl": f"pkg:pypi/{name}@{package.version}",
            **({"licenses": [{"license": {"name": each}} for each in said]} if said else {}),
        }


if __name__ == "__main__":
    json.dump(bill(), sys.stdout, indent=1)
