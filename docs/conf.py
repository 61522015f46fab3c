"""Sphinx settings: sphinx-build -W docs docs/_build/html"""

import os
import re
import sys
from pathlib import Path

from docutils.nodes import SkipNode
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# The examples fit in processes of their own, which need the same path.
os.environ["PYTHONPATH"] = str(ROOT)

from latex2mathml.converter import convert  # noqa: E402

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
    "sphinx.ext.viewcode",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "sphinxcontrib.towncrier.ext",
]
# sphinx-build -t online: links to the documentation of others, whose inventories are
# fetched for it.
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
    "filename_pattern": "plot_",
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

html_math_renderer = "mathml"
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


def formula(display):
    """Return a function that writes formulas as MathML, which needs no script."""

    def visit(translator, node):
        translator.body.append(convert(node.astext(), display=display))
        raise SkipNode

    return visit


# The part of a figure that is readable at 160 pixels: its number, and left, top, right
# and bottom as shares of its width and height.
THUMBNAILS = {
    "codes/digits_codes": (1, (0.5, 0, 1, 1)),
    "codes/discrete_codes": (1, (0.39, 0, 0.75, 1)),
    "codes/grid_search": (1, (0, 0, 0.34, 1)),
    "codes/n_components": (1, (0.33, 0, 0.67, 1)),
    "codes/sparse_dictionary": (1, (0, 0, 0.53, 0.51)),
    "displays": (3, (0.5, 0, 1, 1)),
    "images/defects": (1, (0.78, 0.1, 1, 1)),
    "images/image_denoising": (1, (0, 0, 0.5, 0.85)),
    "images/image_generation": (1, (0.37, 0, 0.7, 0.5)),
    "outliers/anomaly_workflow": (1, (0, 0, 1, 1)),
    "outliers/fraud": (1, (0, 0, 0.45, 1)),
    "outliers/log_anomalies": (1, (0, 0.58, 0.41, 1)),
    "outliers/maintenance": (1, (0, 0, 0.6, 1)),
    "outliers/mixed_table": (1, (0, 0, 0.335, 1)),
    "outliers/network_intrusion": (1, (0, 0, 0.55, 1)),
    "outliers/outlier_detectors": (1, (0, 0, 0.6, 1)),
    "outliers/time_series": (1, (0, 0.68, 0.62, 1)),
    "pca_or_autoencoder": (1, (0.77, 0, 1, 1)),
    "quickstart": (1, (0, 0, 0.65, 0.55)),
    "sequences/audio_denoising": (1, (0, 0, 0.5, 0.52)),
    "ten_lines": (1, (0, 0, 0.33, 1)),
}


def crop_thumbnails(app):
    """Replace the thumbnails of figures with many panels."""
    for example, (number, box) in THUMBNAILS.items():
        folder, _, name = f"/{example}".rpartition("/")
        images = Path(app.srcdir) / f"auto_examples{folder}/images"
        figure = images / f"sphx_glr_plot_{name}_{number:03d}.png"
        if figure.exists():  # not with plot_gallery=0
            with Image.open(figure) as image:
                sides = image.width, image.height
                part = image.crop([s * e for s, e in zip(box, 2 * sides, strict=True)])
            part.thumbnail((400, 280))
            # As sphinx-gallery does, on a ground of one size.
            ground = Image.new("RGB", (400, 280), "white")
            ground.paste(part, ((400 - part.width) // 2, (280 - part.height) // 2))
            ground.save(images / f"thumb/sphx_glr_plot_{name}_thumb.png")


def setup(app):
    """Connect the functions above; the second before numpydoc reads the lines."""
    app.connect("autodoc-skip-member", skip_member)
    app.connect("autodoc-process-docstring", escape_shapes, priority=400)
    app.connect("builder-inited", crop_thumbnails, priority=900)  # after the gallery
    app.add_html_math_renderer(
        "mathml",
        inline_renderers=(formula("inline"), None),
        block_renderers=(formula("block"), None),
    )
