"""Build the documentation site out of the repository's own Markdown, and check it: `make docs`.

Pages keep the path that they have in the repository, so a relative link means the same on GitHub and on the site. The
builder checks links between pages and their anchors; here it is checked that every other linked file is part of the
site, and that no page loads anything from another host.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[1]
SETTINGS = ROOT / "docs/site"
BUILD = ROOT / ".site"
LINKED_FILES = (".env.example", "LICENSE", "docs/asyncapi.yaml", "docs/examples")
"""What pages link to beside other pages."""
LOADING = {"src", "srcset", "data", "poster"}
LOADED_LINKS = {"stylesheet", "icon", "preload", "modulepreload", "preconnect", "dns-prefetch", "prefetch", "manifest"}


class Page(HTMLParser):
    """What one page refers to: `loaded` by the browser at once, `linked` for the reader to follow."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Sort every reference of the tag."""
        values = {name: value or "" for name, value in attrs}
        self.loaded += [values[name] for name in LOADING & set(values)]
        if "href" in values:
            is_loaded = tag == "link" and LOADED_LINKS & set(values.get("rel", "").split())
            (self.loaded if is_loaded else self.linked).append(values["href"])


def complaints(site: Path) -> Iterator[str]:
    """Yield what is wrong in a built site: files that are missing, and anything loaded from another host."""
    for path in sorted(site.rglob("*.html")):
        page = Page(path.read_text(encoding="utf-8"))
        name = path.relative_to(site).as_posix()
        yield from (f"{name} loads {url}" for url in page.loaded if urlsplit(url).netloc)
        if name == "404.html":  # served from any depth, so its links are absolute
            continue
        for url in page.loaded + page.linked:
            parts = urlsplit(url)
            if not parts.scheme and not parts.netloc and not (path.parent / unquote(parts.path)).exists():
                yield f"{name} refers to {url}, which is no file of the site"


def markdown() -> list[Path]:
    """Return the repository's Markdown files that git tracks or would track, by path from the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [Path(name) for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def assemble() -> None:
    """Put the settings and a copy of all pages into an empty `BUILD`."""
    shutil.rmtree(BUILD, ignore_errors=True)
    shutil.copytree(SETTINGS, BUILD)
    for page in markdown():
        copy = BUILD / "pages" / page
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / page, copy)
    (BUILD / "nav.yml").rename(BUILD / "pages/nav.yml")


def add_linked_files(site: Path) -> None:
    """Copy what the builder passes over: it knows pages, and no file whose name begins with a dot."""
    for name in LINKED_FILES:
        source, target = ROOT / name, site / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copyfile(source, target)


def main() -> int:
    """Build into `.site/site`; return 1 if the builder warns or the check finds anything."""
    assemble()
    builder = Path(sys.executable).with_name("zensical")
    if subprocess.run([builder, "build", "--strict"], cwd=BUILD, check=False).returncode:
        return 1
    add_linked_files(BUILD / "site")
    found = list(complaints(BUILD / "site"))
    print(*found, sep="\n", end="\n" if found else "")
    print(f"{BUILD / 'site/index.html'}: {sum(1 for _ in (BUILD / 'site').rglob('*.html'))} pages")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
