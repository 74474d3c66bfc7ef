"""A platform is whole when it has an adapter, a guide, a section that says how it is read, bodies of its own and tests."""

import ast
import re

import pytest

from service.intake.adapters import ADAPTERS
from service.intake.adapters.generic import ADAPTER as GENERIC
from service.tables.parties import Platform
from tests.support.house import ROOT

ADAPTERS_FOLDER = ROOT / "service" / "intake" / "adapters"
PAGE = (ROOT / "docs" / "adapters.md").read_text()
WEBHOOKS = (ROOT / "docs" / "webhooks.md").read_text()

platforms = pytest.mark.parametrize("platform", ADAPTERS)


@platforms
def test_a_platform_is_one_file_named_after_it_and_one_line_of_the_table(platform: Platform) -> None:
    module = (ADAPTERS_FOLDER / f"{platform}.py").read_text()
    table = (ADAPTERS_FOLDER / "__init__.py").read_text()

    assert "ADAPTER = Adapter(" in module
    assert f"Platform.{platform.name}: {platform}.ADAPTER" in table


@platforms
def test_a_platform_has_a_guide_and_a_section_that_says_how_it_is_read(platform: Platform) -> None:
    guide = ROOT / "docs" / "shops" / f"{platform}.md"

    assert guide.exists(), f"write {guide.relative_to(ROOT)}"
    assert f'"platform": "{platform}"' in guide.read_text()
    assert f"(shops/{platform}.md)" in WEBHOOKS


@platforms
def test_a_platform_has_bodies_of_its_own_and_tests(platform: Platform) -> None:
    fixtures = list((ROOT / "tests" / "fixtures" / platform).glob("*.json"))
    tests = [*(ROOT / "tests" / "stages").glob(f"test_intake_{platform}*.py")]

    # Our own language has its bodies in docs/webhooks.md, where they are read by a test.
    assert fixtures or ADAPTERS[platform] is GENERIC
    assert tests


def test_nothing_but_the_table_knows_the_platforms_by_name() -> None:
    """Else adding a shop would be more than a file, a member and a line."""
    named = {member.name for member in ADAPTERS if ADAPTERS[member] is not GENERIC}
    asked = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "service").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Platform"
        if node.attr in named and path != ADAPTERS_FOLDER / "__init__.py"
    }

    assert asked == set()


def test_what_the_page_says_to_change_is_there() -> None:
    paths = set(re.findall(r"`((?:service|tests|docs|migrations)/[a-z0-9_/.]+)`", PAGE))

    assert paths
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_the_page_names_every_part_of_an_adapter() -> None:
    parts = [name for name in GENERIC.__dataclass_fields__ if f"`{name}`" not in PAGE]

    assert parts == []


def test_every_setting_of_a_platform_is_in_its_guide() -> None:
    for platform in ADAPTERS:
        module = (ADAPTERS_FOLDER / f"{platform}.py").read_text()
        told = re.search(r"^_SETTINGS = (\{.*?\})$", module, re.MULTILINE | re.DOTALL)
        names = ast.literal_eval(told[1]) if told else set()
        guide = (ROOT / "docs" / "shops" / f"{platform}.md").read_text()

        assert [name for name in sorted(names) if f"`{name}`" not in guide] == [], platform
