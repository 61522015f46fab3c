"""Sphinx settings: sphinx-build -W docs docs/_build/html"""

import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# The examples fit in processes of their own, which need the same path.
os.environ["PYTHONPATH"] = str(ROOT)

import skae  # noqa: E402

project = "skae"
author = "The skae developers"
copyright = f"2026, {author}"
release = version = skae.__version__

extensions = [
    "matplotlib.sphinxext.plot_directive",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "sphinxcontrib.towncrier.ext",
]
# sphinx-build -t online: links to the documentation of others, whose inventories are
# fetched for it, and examples whose data are.
online = tags.has("online")  # noqa: F821, Sphinx has it among the names here
if online:
    extensions.append("sphinx.ext.intersphinx")
intersphinx_mapping = {
    "matplotlib": ("https://matplotlib.org/stable", None),
    "numpy": ("https://numpy.org/doc/stable", None),
    "pandas": ("https://pandas.pydata.org/docs", None),
    "python": ("https://docs.python.org/3", None),
    "scipy": ("https://docs.scipy.org/doc/scipy", None),
    "sklearn": ("https://scikit-learn.org/stable", None),
    "skorch": ("https://skorch.readthedocs.io/en/stable", None),
    "torch": ("https://docs.pytorch.org/docs/stable", None),
}
exclude_patterns = ["_build", "changes/*"]
templates_path = ["_templates"]
default_role = "py:obj"

towncrier_draft_autoversion_mode = "draft"
towncrier_draft_include_empty = False
towncrier_draft_working_directory = ROOT

autosummary_generate = True
autodoc_default_options = {"members": True, "inherited-members": True}
numpydoc_show_class_members = False
toc_object_entries_show_parents = "hide"

plot_formats = [("png", 110)]
plot_html_show_formats = plot_html_show_source_link = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    # The others are shown, not run.
    "filename_pattern": "plot_" if online else "plot_(?!faces|network_intrusion)",
    "within_subsection_order": "ExampleTitleSortKey",
    # What an example prints, not what its last line happens to return.
    "capture_repr": (),
    "download_all_examples": False,
    "show_memory": False,
    # Their tables fetch scripts from other sites.
    "write_computation_times": False,
    "show_signature": False,
    "abort_on_example_error": True,
}

html_theme = "pydata_sphinx_theme"
html_title = f"skae {release}"
html_logo = html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["skae.css"]
html_js_files = ["copy.js"]
html_theme_options = {
    "logo": {"text": f"skae {release}"},
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
}
html_sidebars = {
    "index": [],
    "getting_started": [],
    "contributing": [],
    "whats_new": [],
}


def skip_member(app, what, name, obj, skip, options):
    """Leave out scikit-learn's methods that refer to its own user guide."""
    if name in {"get_metadata_routing", "set_output"}:
        return True
    # Those of GridSearchCV, too.
    function = obj.fget if isinstance(obj, property) else obj
    module = getattr(function, "__module__", None) or ""
    if module.startswith("sklearn.model_selection"):
        return True
    return True if name.startswith("set_") and name.endswith("_request") else None


def escape_shapes(app, what, name, obj, options, lines):
    """Keep ``n_features_in_`` in a shape from being read as a link."""
    lines[:] = [
        re.sub(r"(\w)_([,)])", r"\1\\_\2", line) if "of shape (" in line else line
        for line in lines
    ]


def setup(app):
    """Connect the functions above; the second before numpydoc reads the lines."""
    app.connect("autodoc-skip-member", skip_member)
    app.connect("autodoc-process-docstring", escape_shapes, priority=400)
