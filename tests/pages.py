"""Reading generated pages as their readers' programs do: links and diagrams."""

import re
from pathlib import Path

_ENTITY = r'[A-Za-z_][\w-]*(?:\["[^"\n]+"\])?'
_LINES = [
    re.compile(rf"(?P<open>{_ENTITY}) \{{"),
    re.compile(r"[A-Za-z_][\w\-\[\]()]* [A-Za-z_][\w\-\[\]()]*(?: (?:PK|FK|UK)(?:, (?:PK|FK|UK))*)?"),
    re.compile(r"(?P<close>\})"),
    re.compile(rf'(?P<left>{_ENTITY}) (?:\|o|\|\||\}}o|\}}\|)--(?:o\||\|\||o\{{|\|\{{) (?P<right>{_ENTITY}) : "[^"\n]*"'),
    re.compile(_ENTITY),
]


def diagrams(text: str) -> list[str]:
    """Return the mermaid diagrams of a page."""
    return re.findall(r"^```mermaid\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def entities(diagram: str) -> set[str]:
    """Read a diagram by the plain part of the grammar of mermaid's erDiagram, and return the entities that it defines.

    Stricter than the newest mermaid (11.17 read all of ours), so that older ones on web sites read them too.

    Raises:
        ValueError: a line is none of that grammar, or a relationship names no entity.
    """
    first, *lines = diagram.splitlines()
    if first != "erDiagram":
        raise ValueError(f"no erDiagram: {first}")
    inside, defined, named = False, set[str](), set[str]()
    for line in map(str.strip, lines):
        kind = next((at for at, form in enumerate(_LINES) if form.fullmatch(line)), None)
        if kind is None or inside != (kind in (1, 2)):
            raise ValueError(f"not understood: {line}")
        found = _LINES[kind].fullmatch(line)
        assert found is not None
        if kind == 0:
            defined.add(found["open"])
        elif kind == 3:
            named |= {found["left"], found["right"]}
        elif kind == 4:
            defined.add(line.partition("[")[0])
        inside = kind in (0, 1)
    if inside or named - defined:
        raise ValueError(f"unfinished, or nobody knows {named - defined}")
    return defined


def anchors(text: str) -> set[str]:
    """Return what a link can point to within a page: its headings as GitHub names them, and what says so itself."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain} | set(
        re.findall(r'<a id="([^"]+)">', text)
    )


def broken_links(page: Path) -> list[str]:
    """Return the links of a page, within its folder and around it, that lead nowhere."""
    text = page.read_text(encoding="utf-8")
    broken = []
    for target in re.findall(r"\]\(([^()\s]+)\)", re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        other = (page.parent / name) if name else page
        if not other.exists() or (anchor and anchor not in anchors(other.read_text(encoding="utf-8"))):
            broken.append(target)
    return broken
