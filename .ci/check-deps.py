#!/usr/bin/env python3
"""Checks licences, banned packages and duplicate versions of what we compile.

Offline, from `cargo tree` (exact about features and platform, unlike Cargo.lock and
`cargo metadata`) against the lists in deps.toml beside this file. Exit code 1 and one
line per finding when something doesn't fit. Python 3.11 or later, no packages.
"""

import collections
import pathlib
import re
import subprocess
import sys
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
TOKEN = re.compile(r"\s*(\(|\)|/|[A-Za-z0-9.+:-]+)")


class Unreadable(Exception):
    """A licence expression that is not SPDX."""


def permitted(expression, allowed):
    """Whether an SPDX expression can be met from the set of licences `allowed`.

    The grammar of SPDX 2.3, annex D: WITH binds closest, then AND, then OR. "/" is
    crates.io's old spelling of OR. A licence with an exception is listed as one string.
    """
    tokens, position = [], 0
    expression = expression.rstrip()
    while position < len(expression):
        match = TOKEN.match(expression, position)
        if not match:
            raise Unreadable(expression)
        tokens.append("OR" if match[1] == "/" else match[1])
        position = match.end()

    def take(expected=None):
        if not tokens or (expected and tokens[0] != expected):
            raise Unreadable(expression)
        return tokens.pop(0)

    def either():
        met = both()
        while tokens and tokens[0] == "OR":
            take()
            met = both() or met
        return met

    def both():
        met = one()
        while tokens and tokens[0] == "AND":
            take()
            met = one() and met
        return met

    def one():
        if tokens and tokens[0] == "(":
            take()
            met = either()
            take(")")
            return met
        name = take()
        if name in ("AND", "OR", "WITH", ")"):
            raise Unreadable(expression)
        if tokens and tokens[0] == "WITH":
            take()
            name = f"{name} WITH {take()}"
        return name in allowed

    met = either()
    if tokens:
        raise Unreadable(expression)
    return met


def compatible(version):
    """The part of a version that semver keeps compatible: 1.2.3 → 1, 0.2.3 → 0.2."""
    major, minor, patch = version.split("+")[0].split("-")[0].split(".")
    if major != "0":
        return major
    return f"0.{minor}" if minor != "0" else f"0.0.{patch}"


def compiled(target):
    """{(name, version): licence} of every package compiled for `target`."""
    command = ["cargo", "tree", "--workspace", "--locked", "--offline", "--target", target]
    command += ["--edges", "normal,build,dev", "--prefix", "none", "--format", "{p}|{l}"]
    tree = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True)
    if tree.returncode:
        sys.exit("check-deps: cargo tree failed")
    packages = {}
    for line in tree.stdout.splitlines():
        if line:
            package, licence = line.removesuffix(" (*)").split("|")
            name, version = package.split()[:2]
            packages[name, version.removeprefix("v")] = licence.strip()
    return packages


def findings(packages, rules):
    """One sentence for everything that doesn't fit `rules`."""
    allowed = set(rules["licences"]["allow"])
    exceptions = rules["licences"]["exceptions"]
    versions = collections.defaultdict(set)
    for (name, version), licence in sorted(packages.items()):
        versions[name].add(version)
        extra = set(exceptions.get(name, {}).get("allow", ()))
        try:
            if not permitted(licence, allowed | extra):
                yield f"{name} {version}: licence {licence!r} is not allowed"
            elif extra and permitted(licence, allowed):
                yield f"{name}: needs no licence exception any more, delete it"
        except Unreadable:
            yield f"{name} {version}: licence {licence!r} can't be read as SPDX"
    for name in exceptions.keys() - versions.keys():
        yield f"{name}: has a licence exception but is not compiled, delete it"

    for name, why in rules["banned"].items():
        if name in versions:
            yield f"{name}: banned ({why})"

    tolerated = rules["duplicates"]
    for name, found in sorted(versions.items()):
        found = {compatible(version) for version in found}
        listed = set(tolerated[name]["versions"]) if name in tolerated else None
        if listed is None and len(found) > 1:
            yield f"{name}: new duplicate versions {sorted(found)}"
        elif listed is not None and len(found) == 1:
            yield f"{name}: no duplicate any more, delete its entry"
        elif listed is not None and found != listed:
            yield f"{name}: listed versions {sorted(listed)}, compiled {sorted(found)}"
    for name in tolerated.keys() - versions.keys():
        yield f"{name}: listed as a duplicate but not compiled, delete its entry"


def self_test():
    """The parts above on known answers, so that this check can't pass by being broken."""
    allowed = {"MIT", "ISC", "Apache-2.0 WITH LLVM-exception"}
    for expression, expected in [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("GPL-2.0-only OR MIT", True),
        ("MIT/GPL-2.0-only", True),
        ("MIT AND GPL-2.0-only", False),
        ("MIT OR ISC AND GPL-2.0-only", True),
        ("(MIT OR ISC) AND GPL-2.0-only", False),
        ("ISC AND (GPL-2.0-only OR (MIT AND ISC))", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("Apache-2.0", False),
    ]:
        assert permitted(expression, allowed) is expected, expression
    for expression in ["", "MIT OR", "(MIT", "MIT ISC", "MIT WITH", "AND", "MIT)", "see file!"]:
        try:
            permitted(expression, allowed)
        except Unreadable:
            continue
        raise AssertionError(f"{expression!r} was read")
    assert [compatible(v) for v in ("1.2.3", "0.2.3-rc.1", "0.0.3+x")] == ["1", "0.2", "0.0.3"]

    rules = {
        "licences": {"allow": ["MIT"], "exceptions": {"gone": {"allow": ["ISC"]}}},
        "banned": {"bad": "for the test"},
        "duplicates": {"two": {"versions": ["1", "2"]}, "once": {"versions": ["1", "2"]}},
    }
    names = ["two 1.0.0", "two 2.1.0", "once 1.0.0", "new 0.1.0", "new 0.2.0", "bad 1.0.0"]
    packages = {tuple(name.split()): "MIT" for name in names}
    packages["loose", "1.0.0"] = ""
    found = sorted(finding.split(":")[0] for finding in findings(packages, rules))
    assert found == ["bad", "gone", "loose 1.0.0", "new", "once"], found


def main():
    self_test()
    rules = tomllib.loads((HERE / "deps.toml").read_text(encoding="utf-8"))
    packages = compiled(rules["target"])
    found = list(findings(packages, rules))
    for finding in found:
        print(finding)
    print(
        f"{len(packages)} packages compiled for {rules['target']}, "
        f"{len(rules['duplicates'])} tolerated duplicates, {len(found)} findings"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
