"""The package, its twistd plugin and what it needs; tools are set up in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

setup(
    name="rqdisco",
    version=re.search(r'__version__ = "(.+)"', (HERE / "rqdisco/__init__.py").read_text())[1],
    description="A discovery service for rqlite that one can run oneself",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    python_requires=">=3.10",
    # find_packages passes over a folder without __init__.py, which twisted/plugins must not have.
    packages=[*find_packages(include=["rqdisco", "rqdisco.*"]), "twisted.plugins"],
    package_data={"rqdisco": ["py.typed", "http/ui/static/*", "http/ui/templates/*"]},
    install_requires=[
        # parsePOSTFormSubmission, without which every POST pays for parsing a form that is none.
        "twisted[tls]>=25.5,<27",
        # The last Klein so far; what it leaves uncapped has broken it before (Werkzeug 2.1.2 and
        # 2.3, attrs 24.2).
        "klein>=24.8,<26",
        "Werkzeug>=3.0,<4",
        "attrs>=24.2,<27",
        "treq>=24.9,<27",
        "hyperlink>=21",
        # For certificates; uncapped, since its majors are many and bring security fixes.
        "cryptography>=42",
        "msgspec>=0.19,<0.23",
        "click>=8.2,<9",
        "rich>=13.9,<16",
        "prometheus-client>=0.21,<0.27",
    ],
    extras_require={
        "test": [
            "axe-playwright-python>=0.1.4,<0.2",
            "coverage[toml]>=7.6,<8",
            "dnspython>=2.6,<3",
            "hypothesis>=6.100,<7",
            "jsonschema>=4.20,<5",
            "mypy>=1.13,<3",
            "mypy-zope>=1.0.8,<2",
            "openapi-spec-validator>=0.7,<1",
            "playwright>=1.49,<2",
            "py-consul[asyncio]>=1.5,<2",
            "pyyaml>=6,<7",
            "pytest>=8.3,<10",
            "pytest-twisted>=1.14.3,<2",
            "ruff>=0.17,<0.18",
            "schemathesis>=4.32,<5",
            "setuptools>=68",
            "wheel>=0.43",
        ],
    },
    entry_points={"console_scripts": ["rqdisco = rqdisco.cli.main:main"]},
    zip_safe=False,
    classifiers=[
        "Framework :: Twisted",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Database :: Database Engines/Servers",
        "Typing :: Typed",
    ],
)
