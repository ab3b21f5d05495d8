"""Every code block of README and the documentation runs as it is pasted, page by page.

Python blocks call a simulated endpoint that ``OPENAI_BASE_URL`` names, and record into a database in which
``seed.py`` has recorded the runs that the commands name. A block of a framework that is not installed runs in that
framework's nox session; here its page is skipped with that reason after its other blocks have run.
"""

from __future__ import annotations

import re
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from rlm_cachetrack.simulator import SimulatedEndpoint

from .blocks import PAGES, ROOT, Block, blocks_of
from .runner import LANGUAGES, LOCAL_MODULES, Reader, imported_packages

NOT_RUN: dict[str, int] = {}
"""The number of blocks on each page that cannot be run; the comment before each gives the reason."""

WITH_BLOCKS = {page: found for page in PAGES if (found := blocks_of(page))}


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).with_suffix("").as_posix().removeprefix("docs/").replace("/", "-")


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with SimulatedEndpoint(latency=False) as endpoint:
        yield endpoint.base_url


@pytest.fixture(scope="module")
def seeded_url(module_db_url: str, served: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    Reader(tmp_path_factory.mktemp("seed"), module_db_url, served).seed()
    return module_db_url


@pytest.fixture
def own_url(seeded_url: str, server_url: str) -> Iterator[str]:
    """Yield the URL of a copy of the database: one page may delete what another one shows."""
    name = f"rlm_docs_{uuid.uuid4().hex[:12]}"
    original = conninfo_to_dict(seeded_url)["dbname"]
    with psycopg.connect(server_url, autocommit=True) as connection:
        copied = "CREATE DATABASE {} TEMPLATE {}"
        connection.execute(sql.SQL(copied).format(sql.Identifier(name), sql.Identifier(str(original))))
        yield make_conninfo(seeded_url, dbname=name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=name_of)
def test_the_blocks_of_a_page_run_as_pasted(page: Path, own_url: str, served: str, tmp_path: Path) -> None:
    if page.stem == "grafana" or page.parent.name == "deploy":  # read in that folder of a checkout
        shutil.copytree(ROOT / "examples" / "deploy", tmp_path, dirs_exist_ok=True)
    reader = Reader(tmp_path, own_url, served)
    for block in WITH_BLOCKS[page]:
        reader.run(block)
    for line in reader.not_run:
        print("not run:", line)
    missing = [line for line in reader.not_run if "which nox installs" in line]
    if missing:
        pytest.skip("; ".join(missing))


def test_the_quick_start_needs_no_run_that_it_does_not_record(db_url: str, served: str, tmp_path: Path) -> None:
    reader = Reader(tmp_path, db_url, served)  # into a database without the runs of seed.py
    for block in WITH_BLOCKS[ROOT / "docs" / "quick-start.md"]:
        reader.run(block)


def test_every_block_names_a_language_that_is_run() -> None:
    unknown = [block.place for found in WITH_BLOCKS.values() for block in found if block.language not in LANGUAGES]
    assert unknown == []
    assert sum(map(len, WITH_BLOCKS.values())) > 80


def test_commands_copy_without_a_prompt() -> None:
    def has_prompt(block: Block) -> bool:
        return block.language in ("sh", "console") and re.search(r"^[$>] ", block.code, re.MULTILINE) is not None

    assert [block.place for found in WITH_BLOCKS.values() for block in found if has_prompt(block)] == []


def test_blocks_that_cannot_be_run_are_known() -> None:
    found = {
        page.relative_to(ROOT).as_posix(): sum(block.note.startswith("not run: ") for block in blocks)
        for page, blocks in WITH_BLOCKS.items()
    }
    assert {page: number for page, number in found.items() if number} == NOT_RUN


def test_the_framework_of_each_recipe_has_a_nox_session() -> None:
    sessions = set(re.findall(r'^    "(\w+)": \(', (ROOT / "noxfile.py").read_text(encoding="utf-8"), re.MULTILINE))
    ours = {"openai", "rlm_cachetrack", *sys.stdlib_module_names}
    found: dict[str, set[str]] = {}
    for page, blocks in WITH_BLOCKS.items():
        if page.parent.name == "recipes":
            code = "\n".join(block.code for block in blocks if block.language == "python")
            if others := imported_packages(code) - ours - LOCAL_MODULES:
                found[page.stem.replace("-", "_")] = others
    assert set(found) <= sessions, found
    assert len(found) >= 7
