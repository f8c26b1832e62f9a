# Configuration of Sphinx for `make site`. The pages are those of docs/, as they are.
project = "Provium"
html_title = "Provium"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["site"]
# Links such as network.md#routes go to headings, as on GitHub.
myst_heading_anchors = 4
html_theme = "furo"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
# Blocks without a language are not Python.
highlight_language = "none"
# Some blocks show parts of files.
suppress_warnings = ["misc.highlighting_failure"]
html_static_path = ["static"]
html_css_files = ["provium.css"]
html_js_files = ["provium.js"]
html_use_index = False
# An excerpt of each page that is found would be read from it, which browsers refuse on a disk.
html_show_search_summary = False
