"""How the documentation is built: `python -m sphinx -W -b html docs docs/_build`."""

import inspect
from importlib import metadata

from sphinx.util.inspect import stringify_signature

project = "resilience"
author = "the resilience-policies maintainers"
copyright = author  # noqa: A001 - the name is Sphinx's
release = metadata.version("resilience-policies")
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "benchmark-table.md"]
myst_enable_extensions = ["colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 3
default_role = "code"  # docstrings write `name` as Markdown does

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_display_short_literal_types = True
python_maximum_signature_line_length = 88
add_module_names = False

html_theme = "furo"
html_title = "resilience"
html_static_path = ["_static"]
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "native"


def show_parameters_of_init(_app, what, _name, obj, _options, signature, _returns):
    """Show the parameters of a policy, which its `__new__` hides: that one takes anything, to explain mistakes."""
    if what != "class" or signature != "(*args, **kwargs)":
        return None
    own = inspect.signature(obj.__init__)
    return stringify_signature(
        own.replace(parameters=list(own.parameters.values())[1:]), show_return_annotation=False
    ), None


def setup(app):
    """Register the hook above."""
    app.connect("autodoc-process-signature", show_parameters_of_init)
